"""What mkdocs-jupyter leaves undone: links of notebooks to pages lead to the pages of the site."""

from __future__ import annotations

import re
from typing import Any


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """The HTML of a page; called by MkDocs."""
    if not page.file.src_path.endswith(".ipynb"):
        return html
    return re.sub(r'href="([a-z_]+)\.md"', r'href="../\1/"', html)
