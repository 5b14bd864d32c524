"""Report sections -> inline SVG, coloured by the page's style sheet, equal bytes for equal input."""
