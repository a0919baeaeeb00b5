"""The script of all pages: tables that sort, and forms that hide rows."""

SCRIPT = r"""
const units = {ms: .001, s: 1, min: 60, h: 3600, d: 86400, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30};
function number(text) {
  const parts = [...text.matchAll(/([\d.,]+) (ms|s|min|h|d|KiB|MiB|GiB)\b/g)];
  const plain = word => parseFloat(word.replaceAll(',', ''));
  return parts.length ? parts.reduce((sum, part) => sum + plain(part[1]) * units[part[2]], 0) : plain(text);
}
function value(row, column) {
  const cell = row.cells[column], text = cell.dataset.v ?? cell.textContent.trim();
  return text === '' || text === '-' ? null : text;
}
for (const table of document.querySelectorAll('table.sorts')) {
  const body = table.tBodies[0], rows = [...body.rows], heads = table.tHead.rows[0].cells;
  for (const head of heads) {
    const button = head.querySelector('button');
    if (!button) continue;
    button.onclick = () => {
      const column = head.cellIndex, up = head.ariaSort !== 'ascending';
      const numeric = rows.every(row => value(row, column) === null || !isNaN(number(value(row, column))));
      for (const other of heads) other.removeAttribute('aria-sort');
      head.ariaSort = up ? 'ascending' : 'descending';
      const compare = (a, b) => {
        const x = value(a, column), y = value(b, column);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = numeric ? number(x) - number(y) : x.localeCompare(y, undefined, {numeric: true});
        return up ? order : -order;
      };
      body.append(...rows.slice().sort(compare));
    };
  }
}
for (const form of document.querySelectorAll('form.search')) {
  const table = form.parentElement.querySelector('table'), rows = [...table.tBodies[0].rows];
  const texts = rows.map(row => row.textContent.toLowerCase());
  form.oninput = () => {
    const text = form.querySelector('input').value.toLowerCase(), choices = [...form.querySelectorAll('select')];
    let shown = 0;
    rows.forEach((row, index) => {
      const chosen = select => !select.value || row.cells[select.dataset.column].textContent === select.value;
      row.hidden = !(texts[index].includes(text) && choices.every(chosen));
      shown += !row.hidden;
    });
    form.querySelector('[role=status]').textContent = `${shown} of ${rows.length} rows`;
  };
  form.onreset = () => setTimeout(form.oninput);
  form.onsubmit = event => event.preventDefault();
  form.oninput();
}
"""
