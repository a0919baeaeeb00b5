"""`transit vet`: from signals and light curves to vetted candidates."""
