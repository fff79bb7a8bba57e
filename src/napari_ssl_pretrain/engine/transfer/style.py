"""The look of the report's page: for a screen and for paper, nothing loaded from elsewhere."""

from __future__ import annotations

CSS = """
:root { --ink: #1f2937; --soft: #5b6676; --line: #e3e8ef; --paper: #ffffff; --back: #f5f7fa;
  --scratch: #64748b; --pretrained: #1f66b0; --frozen: #d97b29; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 28px 48px; }
header p.kicker { margin: 0 0 4px; color: var(--soft); font-size: 14px; }
h1 { margin: 0 0 18px; font-size: 26px; line-height: 1.25; font-weight: 650; }
h2 { margin: 0 0 12px; font-size: 18px; font-weight: 650; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 24px; margin: 18px 0; }
.verdict { border-left: 8px solid var(--tone); padding: 22px 26px; }
.verdict p.sentence { margin: 0; font-size: 21px; line-height: 1.4; font-weight: 600; }
.verdict p.caution { margin: 10px 0 0; color: var(--soft); }
.helps { --tone: #2f855a; } .hurts { --tone: #c53030; } .none { --tone: #8a94a3; }
.word { display: inline-block; margin-bottom: 10px; padding: 2px 12px; border-radius: 999px;
  background: var(--tone); color: #fff; font-size: 14px; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px;
  margin-top: 18px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.card b { display: block; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 14px; }
table { border-collapse: collapse; width: 100%; font-size: 15px;
  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr.all td { font-weight: 600; border-top: 2px solid var(--line); }
tr.chosen td { font-weight: 600; }
td small { display: block; color: var(--soft); font-size: 13px; white-space: nowrap; }
.wide { overflow-x: auto; }
dl { display: grid; grid-template-columns: minmax(150px, max-content) 1fr; gap: 6px 22px;
  margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
img.chart { display: block; max-width: 100%; height: auto; margin: 4px 0 14px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px;
  margin: 8px 0 18px; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); border-radius: 4px; background: #000; }
figcaption { padding-top: 4px; color: var(--soft); font-size: 14px; }
h3 { margin: 6px 0 0; font-size: 16px; font-weight: 600; }
.key span { display: inline-block; margin-right: 18px; color: var(--soft); font-size: 14px; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 3px;
  vertical-align: -1px; border: 1px solid #0002; }
ul { margin: 0; padding-left: 20px; } li { margin: 3px 0; }
p { margin: 0 0 10px; } p:last-child { margin-bottom: 0; }
p.stopped { margin: 18px 0; padding: 10px 16px; background: #fdf3d7;
  border: 1px solid #e5c765; border-radius: 8px; }
.soft { color: var(--soft); font-size: 15px; }
footer { color: var(--soft); font-size: 14px; margin-top: 20px; }
@media print {
  @page { margin: 14mm; }
  body { background: #fff; font-size: 12px; -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  main { max-width: none; padding: 0 2px; }
  section { border-radius: 0; padding: 12px 14px; margin: 10px 0; break-inside: avoid; }
  section.long { break-inside: auto; } tr, figure, .row, img.chart { break-inside: avoid; }
  h1 { font-size: 20px; } h2 { font-size: 15px; } .verdict p.sentence { font-size: 16px; }
  table { font-size: 11px; } th, td { padding: 4px 6px; } td small { font-size: 10px; }
  .wide { overflow: visible; } .row { grid-template-columns: repeat(5, 1fr); gap: 6px; }
  .card b { font-size: 16px; } .card { padding: 8px 10px; } h3 { font-size: 13px; }
  .soft, .card span, figcaption, .key span, footer { font-size: 11px; }
}
"""
