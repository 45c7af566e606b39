"""The figures of an explanation: a timeline of the nodes, and operands × nodes. Each has its text.

figures.show(timeline_figure(found), alt=timeline_text(found))
"""

from __future__ import annotations

from leptonami.explain.draw_matrix import matrix_figure, matrix_text
from leptonami.explain.draw_timeline import timeline_figure, timeline_text

__all__ = ["matrix_figure", "matrix_text", "timeline_figure", "timeline_text"]
