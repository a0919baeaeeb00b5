"""`transit doctor --mac-report`: what transit does on a Mac, in one Markdown file to paste into an issue."""
