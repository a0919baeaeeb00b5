"""The page's script: filtering, and opening the sheet that a link leads to, whose plots are drawn then."""

SCRIPT = """
const table = document.getElementById('signals'), body = table.tBodies[0], rows = [...body.rows];
const field = name => document.getElementById(name), columns = {snr: 7, network: 3};
const texts = rows.map(row => row.textContent.toLowerCase());
function filter() {
  const text = field('text').value.toLowerCase(), verdict = field('verdict').value;
  let shown = 0;
  rows.forEach((row, index) => {
    let keep = texts[index].includes(text) && (!verdict || row.dataset.code === verdict);
    for (const name in columns) {
      const least = parseFloat(field(name).value);
      if (!isNaN(least)) keep = keep && parseFloat(value(row, columns[name]) ?? NaN) >= least;
    }
    row.hidden = !keep;
    shown += keep;
    const sheet = document.getElementById(row.querySelector('a').hash.slice(1));
    if (sheet) sheet.hidden = !keep;
  });
  field('count').textContent = `${shown} of ${rows.length} signals`;
}
field('filters').oninput = filter;
field('filters').onreset = () => setTimeout(filter);
field('filters').onsubmit = event => event.preventDefault();
function draw(sheet) {
  const later = sheet.open && sheet.querySelector(':scope > script.later');
  if (!later) return;
  later.insertAdjacentHTML('beforebegin', later.textContent);
  later.remove();
}
document.addEventListener('toggle', event => draw(event.target), true);
addEventListener('beforeprint', () => document.querySelectorAll('details.sheet[open]').forEach(draw));
function open() {
  const sheet = location.hash && document.getElementById(location.hash.slice(1));
  if (sheet && sheet.tagName === 'DETAILS') { sheet.open = true; draw(sheet); sheet.scrollIntoView(); }
}
addEventListener('hashchange', open);
table.addEventListener('click', event => { if (event.target.closest('a')) setTimeout(open); });
filter();
open();
"""
