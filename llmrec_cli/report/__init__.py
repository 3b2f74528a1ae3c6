"""Reports: HTML, plots and terminal tables."""
