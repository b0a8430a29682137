"""The report page's style sheet: light and dark by what the reader's system asks for."""

STYLE = """
:root {
  color-scheme: light dark;
  --bg: #f6f7f9; --card: #ffffff; --ink: #16191f; --soft: #5b6472; --line: #dfe3e8; --grid: #e7eaee;
  --pass: #1a7f4b; --pass-bg: #e2f4e9; --fail: #b3261e; --fail-bg: #fbe6e4; --open: #8a5a00; --open-bg: #fdf0d5;
  --c0: #2f6fbb; --c1: #d9822b; --c2: #4c9f70; --c3: #9b5fb5; --c4: #c2567a; --c5: #7a8699;
  --c6: #2aa3a3; --c7: #b8bec8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #101318; --card: #191e26; --ink: #e8ebf0; --soft: #9aa4b2; --line: #2c333e; --grid: #272e38;
    --pass: #6fd39b; --pass-bg: #14352a; --fail: #ff8a80; --fail-bg: #4a1c19; --open: #f2bd5c; --open-bg: #3b2d10;
    --c0: #6ea8e8; --c1: #f0a45a; --c2: #76c79a; --c3: #c18fd8; --c4: #e487a6; --c5: #9aa6b8;
    --c6: #5fc9c9; --c7: #5a6473;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans KR", "Malgun Gothic", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.6rem; margin: 0; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 10px; }
h3 { font-size: .95rem; margin: 18px 0 6px; }
p { margin: 6px 0; }
.sub, .note, .m { color: var(--soft); }
.note { font-size: .9rem; }
header { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: center; margin-bottom: 6px; }
.pill {
  display: inline-block; padding: 1px 10px; border-radius: 999px; font-size: .85rem; font-weight: 600;
  white-space: nowrap;
}
.pass { color: var(--pass); background: var(--pass-bg); }
.fail { color: var(--fail); background: var(--fail-bg); }
.open { color: var(--open); background: var(--open-bg); }
.warn { background: var(--open-bg); color: var(--open); border-radius: 10px; padding: 10px 14px; margin: 14px 0; }
.warn p { margin: 2px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 14px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 10px 14px; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { font-size: .85rem; color: var(--soft); }
.card { padding: 16px; margin: 14px 0; }
.two {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 0 14px;
  align-items: start;
}
.plots { display: flex; flex-wrap: wrap; gap: 16px 28px; }
.plots figure { flex: 1 1 300px; max-width: 420px; }
figure { margin: 8px 0; max-width: 520px; }
figcaption { font-size: .9rem; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 13px; fill: var(--ink); font-family: inherit; }
svg .m { font-size: 11.5px; fill: var(--soft); }
svg .v { font-weight: 600; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .limit { stroke: var(--fail); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
svg .diagonal { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 4; fill: none; }
svg .curve { fill: none; stroke-width: 2.2; }
svg circle { opacity: .75; }
.c0 { fill: var(--c0); background: var(--c0); } .c1 { fill: var(--c1); background: var(--c1); }
.c2 { fill: var(--c2); background: var(--c2); } .c3 { fill: var(--c3); background: var(--c3); }
.c4 { fill: var(--c4); background: var(--c4); } .c5 { fill: var(--c5); background: var(--c5); }
.c6 { fill: var(--c6); background: var(--c6); } .c7 { fill: var(--c7); background: var(--c7); }
svg .curve.c0 { stroke: var(--c0); fill: none; } svg .curve.c1 { stroke: var(--c1); fill: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: .85rem; color: var(--soft); margin: 4px 0; }
.legend i {
  display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 5px;
  vertical-align: -1px;
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
.files td:first-child { min-width: 130px; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem; }
pre { overflow-x: auto; background: var(--bg); border-radius: 8px; padding: 10px; max-height: 420px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; font-size: .93rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 620px) {
  .gates thead { display: none; }
  .gates tr {
    display: grid; grid-template-columns: 1fr auto; gap: 0 10px; padding: 8px 0;
    border-bottom: 1px solid var(--line);
  }
  .gates td { border: 0; padding: 0; }
  .gates td.n { text-align: left; }
  .gates td:nth-child(1) { font-weight: 600; }
  .gates td:nth-child(2) { order: 2; grid-column: 2; text-align: right; }
  .gates td:nth-child(3) { order: 1; color: var(--soft); }
  .gates td:nth-child(4) { text-align: right; }
  .gates td:nth-child(5) { grid-column: 1 / -1; order: 3; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dt { margin-top: 6px; }
}
"""
