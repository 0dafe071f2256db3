"""The page of a report on paper: a PDF by WeasyPrint, an extra."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from recsys.artifacts import replacement
from recsys.errors import ConfigError
from recsys.reporting.svg import STYLE, standalone

PAPER = """
@page{size:A4;margin:14mm 12mm 16mm;
@bottom-right{content:counter(page) " / " counter(pages);font:7.5pt sans-serif;color:#666}}
body{font-size:9.5pt}
h1{font-size:20pt}h2{font-size:14pt;padding-top:8pt}h3{font-size:10.5pt}
section{margin-top:10pt}
p,.note,.callout{font-size:8.5pt;max-width:none}
.summary{font-size:11pt}
.scroll{break-inside:avoid}
.scroll.long{break-inside:auto}
summary{break-after:avoid}
.key-figures{grid-template-columns:repeat(4,1fr);gap:6pt}
.figures{grid-template-columns:1fr 1fr;gap:8pt}
figure{max-width:none}
img.chart{width:100%}
table{font-size:6.8pt}
th{font-size:6.4pt;white-space:normal}
th,td{padding:2pt 3.5pt}
.number{white-space:normal}
"""
"""After the style of the page, whose rules for print count as well."""
_CHART = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
_COLOUR = re.compile(r"(--[\w-]+):([^;}]+)")
_DARK = re.compile(r"@media \(prefers-color-scheme:dark\)\{.*?\}\}", re.DOTALL)


def write_pdf(page: Path) -> Path:
    """Put the PDF of a report's HTML page beside it.

    Pages break between tables; a table longer than a page repeats its head on each.

    Raises:
        ConfigError: WeasyPrint or Pango, which it draws text with, is not installed.
    """
    try:
        from weasyprint import HTML  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(
            "a PDF needs WeasyPrint and Pango: pip install -e '.[pdf]', and Pango from the "
            f"system's packages ({line})"
        ) from None
    text = _CHART.sub(_as_image, page.read_text(encoding="utf-8"))
    text = text.replace("</head>", f"<style>{PAPER}</style></head>", 1)  # last, so that it counts
    target = page.with_suffix(".pdf")
    with replacement(target) as path:
        HTML(string=text).write_pdf(path)
    return target


def _as_image(chart: re.Match[str]) -> str:
    """A chart as an image with its colours written out.

    WeasyPrint gives no SVG the style of its page, and knows no variables in one.
    """
    light = _DARK.sub("", STYLE)
    colours = dict(_COLOUR.findall(light))
    svg = standalone(chart[0]).replace(STYLE, light)
    svg = re.sub(r"var\((--[\w-]+)\)", lambda match: colours[match[1]], svg)
    encoded = base64.b64encode(svg.encode()).decode()
    return f'<img class="chart" alt="" src="data:image/svg+xml;base64,{encoded}">'
