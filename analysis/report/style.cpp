// The style sheet of index.html: system fonts, one column of text, figures and wide tables in boxes of their own.
#include <string_view>

namespace equisweep {

extern const std::string_view kStyleSheet;

const std::string_view kStyleSheet = R"css(
:root { color-scheme: light dark; --ink: #1c1d1f; --soft: #5f6368; --rule: #dcdfe3; --faint: #f4f5f6; --page: #fff; --link: #0b5c99;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Cambria, Georgia, serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e5e7; --soft: #9aa0a6; --rule: #34373b; --faint: #1d1f22; --page: #131416; --link: #7cb7ea; }
  svg.plot:not(.map), .swatch { filter: brightness(1.3); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 3.5rem 1.25rem 4rem; max-width: 62rem; background: var(--page); color: var(--ink);
  font: 1rem/1.6 var(--sans); overflow-wrap: break-word; }
header, nav, section > p, section > ul, section > pre, section > h2, footer { max-width: 44rem; }
h1 { font: 600 2rem/1.2 var(--serif); letter-spacing: -0.01em; margin: 0 0 .4rem; }
h2 { font: 600 1.3rem/1.3 var(--serif); margin: 4rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
.subtitle { color: var(--soft); margin: 0 0 1.5rem; }
p.lead { font: 1.16rem/1.65 var(--serif); margin: 1rem 0 2rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .18em; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: 0; padding: 0; font-size: .9rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
figure { margin: 1.75rem 0 2.5rem; }
.scroll { overflow-x: auto; overscroll-behavior-x: contain; }
@media (min-width: 66rem) { figure.table .scroll { margin-right: calc(-1 * min(12rem, (100vw - 62rem) / 2 - 1.5rem)); } }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.45; font-variant-numeric: tabular-nums lining-nums; }
caption { caption-side: top; text-align: left; color: var(--ink); padding: 0 0 .7rem; font-size: .925rem; }
caption span { display: block; position: sticky; left: 0; max-width: min(44rem, calc(100vw - 2.5rem)); }
th, td { padding: .38rem .8rem .38rem 0; text-align: left; vertical-align: baseline; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
thead th { white-space: normal; vertical-align: bottom; font-weight: 600; border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody th { font-weight: 400; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody tr:last-child > * { border-bottom: 1.5px solid var(--ink); }
.n { text-align: right; }
td:not(.n) { max-width: 22rem; overflow-wrap: anywhere; }
td.prose { white-space: normal; min-width: 12rem; max-width: 40rem; }
#table-ablation td:nth-last-child(2) { white-space: normal; min-width: 7rem; overflow-wrap: break-word; }
#table-ablation td:last-child { min-width: 16rem; }
#table-cost :is(th, td):not(:last-child), #table-equivariance :is(th, td):not(:last-child) { padding-right: .55rem; }
#table-runs th[scope=row], #table-failures th[scope=row] { font-family: var(--mono); font-size: .8rem; }
.stack { white-space: nowrap; }
.swatch { width: .62em; height: .62em; margin-right: .5em; }
.note { color: var(--soft); font-size: .85rem; line-height: 1.5; margin: .6rem 0 0; max-width: 44rem; }
.files, .files a { font-size: .8rem; color: var(--soft); }
figcaption { color: var(--soft); font-size: .875rem; line-height: 1.5; margin-top: .5rem; max-width: 44rem; }
figure.plot { max-width: 40rem; }
figure.wide { max-width: none; }
svg.plot { display: block; width: 100%; height: auto; font-family: var(--sans); }
figure.wide svg.plot { min-width: 44rem; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: 0 0 .5rem; font-size: .875rem; }
pre { font: .8rem/1.5 var(--mono); background: var(--faint); border-radius: 6px; padding: 1rem; overflow-x: auto; }
ul { padding-left: 1.2rem; }
li { margin: .4rem 0; }
nav li, .key li { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 4rem; border-top: 1px solid var(--rule); color: var(--soft); font-size: .85rem; }
@media (max-width: 30rem) {
  body { padding-top: 2rem; }
  h1 { font-size: 1.6rem; }
  p.lead { font-size: 1.06rem; }
  #table-fairness :is(th, td) { white-space: normal; }
  #table-fairness td:last-child { min-width: 9rem; }
}
@media print {
  @page { size: A4; margin: 18mm 16mm; }
  :root { color-scheme: light; --ink: #000; --soft: #444; --rule: #ccc; --faint: #f4f4f4; --page: #fff; --link: #000; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  nav, .files, footer a { display: none; }
  h2 { margin-top: 2rem; break-after: avoid; }
  figure, tr { break-inside: avoid; }
  figure.long { break-inside: auto; }
  thead { display: table-header-group; }
  figcaption, .note { break-before: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding-right: .5rem; white-space: normal; }
  tbody th { white-space: nowrap; }
  td.prose { min-width: 8rem; }
  #table-ablation td:last-child { min-width: 15rem; }
  svg.plot:not(.map), .swatch { filter: none; }
  figure.plot { max-width: 12cm; }
  figure.wide { max-width: none; }
  figure.wide svg.plot { min-width: 0; max-height: 11cm; width: auto; }
}
)css";

}  // namespace equisweep
