"""From light curves and catalogs to view sets."""
