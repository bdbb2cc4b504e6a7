"""What the reader sees: pictures and tables as deterministic strings (svg, tables, figures), and the panels."""
