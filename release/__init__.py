"""Make what people install. ``make release`` runs it; "A release" in CONTRIBUTING.md says when."""
