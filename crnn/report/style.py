"""The page's look: one column, light, from a phone's width up."""

STYLE = """\
:root { color-scheme: light; }
body {
  max-width: 62rem; margin: 0 auto; padding: 1rem;
  font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.2rem; margin: 0 0 0.5rem; }
h3 { font-size: 1rem; margin: 0 0 0.25rem; }
p { margin: 0.25rem 0; overflow-wrap: break-word; }
sub, sup { line-height: 0; }
section { margin: 0 0 2.5rem; }
section h2:not(:first-child) { margin-top: 2rem; }
.small, figcaption, summary { font-size: 0.85rem; color: #555; }
.cards, .pair { display: grid; gap: 1rem; }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
.pair { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.card { border: 1px solid #ccc; border-top-width: 4px; border-radius: 6px; padding: 0.75rem 1rem; }
.card .small { margin-top: 0.5rem; }
.figure { font-size: 2.2rem; line-height: 1.2; font-weight: 600; }
figure { margin: 0; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.5rem; }
.row img { width: 100%; }
.scroll { overflow-x: auto; }
.scroll > svg { display: block; width: 100%; min-width: 20rem; height: auto; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #eee; text-align: left; }
td { vertical-align: top; }
td:first-child { white-space: nowrap; }
th { color: #555; font-weight: 600; vertical-align: bottom; }
td.number, th.number, .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; min-width: 4rem; }
tr.total td { border-top: 1px solid #999; border-bottom: 0; font-weight: 600; }
.pictures { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); }
.pictures img {
  width: 100%; height: auto; image-rendering: pixelated; background: #000;
  border-bottom: 3px solid var(--net);
}
.pictures figcaption { line-height: 1.3; }
.sight { display: grid; gap: 0.5rem; grid-template-columns: repeat(auto-fill, minmax(6.8rem, 8.2rem)); }
.sight { margin: 1rem 0; padding-top: 1rem; border-top: 1px solid #eee; }
.sight img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.sight figcaption { line-height: 1.3; overflow-wrap: anywhere; }
.sight figcaption + img { width: 50%; margin: 0.3rem 0; outline: 1px solid #ccc; }
.told { display: flex; gap: 1rem; margin: 0.5rem 0 1rem; }
.told figure { width: 8rem; flex: none; }
.told img { width: 6rem; image-rendering: pixelated; }
.told figcaption { line-height: 1.3; overflow-wrap: anywhere; }
@media (max-width: 32rem) {
  table { font-size: 0.78rem; }
  th, td { padding-right: 0.5rem; }
  .sight { grid-template-columns: repeat(3, 1fr); }
  .sight figure:first-child { grid-column: 1 / -1; display: flex; gap: 0.5rem; align-items: start; }
  .sight figure:first-child img { width: 32%; }
}
pre {
  overflow-x: auto; padding: 0.75rem;
  background: #f5f5f5; border-radius: 6px; font-size: 0.8rem;
}
"""
