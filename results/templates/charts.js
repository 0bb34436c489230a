let DATA, rowOf;  // the data, and each trial's row by its number
function setData(data) {
  DATA = data;
  rowOf = new Map((DATA.trials?.rows ?? []).map((row) => [row.trial, row]));
}
setData(JSON.parse(document.getElementById("data").textContent));
const shown = new Map();  // figure -> label of its tab; figures are drawn when they scroll into view
const drawn = new Map();  // figure -> the chart as it was drawn last
let webGL;  // checked once, and only if a chart has enough points to need it
const hasWebGL = () => (webGL ??= Boolean(document.createElement("canvas").getContext("webgl")));

function coloured(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--\w+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((item) => coloured(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
}

const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function hoverText(point) {
  const row = point && rowOf.get(point[0]);
  if (!row) return "";
  const steps = valueOf(row, "step");
  const early = point[2] || (steps && point[1] < steps) ? `read after ${point[2] ?? point[1]} of ${steps} steps<br>` : "";
  const values = DATA.trials.keys.filter((key) => isActive(row, key)).map((key) => `${key}=${shortValue(valueOf(row, key))}`);
  const state = (row.state === "failed" ? row.reason.split(":")[0] : row.state);
  const first = `${keyOf(row)} ${state}, ${row.epochs} of ${DATA.trials.epochs} epochs, T=${steps ?? "?"}`;
  return early + [first, ...wrapped(values)].map(escaped).join("<br>");
}

function wrapped(words) {
  const lines = [""];
  for (const word of words) {
    const longer = `${lines[lines.length - 1]} ${word}`.trim();
    if (longer.length > 64) lines.push(word); else lines[lines.length - 1] = longer;
  }
  return lines;
}

function layoutOf(layout, style, revision) {
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--rule"), zerolinecolor: colour("--rule"), automargin: true };
  const themed = {
    paper_bgcolor: colour("--paper"), plot_bgcolor: colour("--paper"), hovermode: "closest", dragmode: "zoom",
    font: { family: "system-ui, sans-serif", size: 13, color: colour("--ink") },
    margin: { l: 70, r: 24, t: 16, b: 56 },
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
    hoverlabel: { align: "left", bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
    uirevision: revision,  // a zoom stays while the data are updated
    ...coloured(layout, style),
  };
  for (const name of Object.keys(themed)) if (/^[xy]axis/.test(name)) themed[name] = { ...axis, ...themed[name] };
  return themed;
}

function draw(figure) {
  const element = document.getElementById(`chart-${figure}`);
  const tabs = DATA.charts[figure];
  if (!element || !tabs) return;
  if (!(shown.get(figure) in tabs)) shown.set(figure, Object.keys(tabs)[0]);
  const tab = shown.get(figure);
  const style = getComputedStyle(document.documentElement);
  const data = tabs[tab].data.map((trace) => {
    const ready = coloured(trace, style);
    if (trace.customdata && !trace.text) ready.text = trace.customdata.map(hoverText);
    if (trace.type === "scattergl" && !hasWebGL()) ready.type = "scatter";
    return ready;
  });
  const options = { displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: `${document.title.split(":")[0]}-${figure}` } };
  drawn.set(figure, JSON.stringify(tabs[tab]));
  markTab(figure);
  const result = Plotly.react(element, data, layoutOf(tabs[tab].layout, style, tab), options);
  if (!element.dataset.clickable && DATA.trials) {
    element.dataset.clickable = "true";
    element.on("plotly_click", ({ points }) => { if (points[0].customdata) location.hash = keyOf({ trial: points[0].customdata[0] }); });
  }
  return result;
}

function markTab(figure) {
  for (const button of document.querySelectorAll(`button[data-figure="${CSS.escape(figure)}"]`)) {
    button.setAttribute("aria-pressed", String(button.dataset.tab === shown.get(figure)));
  }
}

async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-tab], button[data-copy]");
  if (!button) return;
  if ("copy" in button.dataset) { copy(button); return; }
  shown.set(button.dataset.figure, button.dataset.tab);
  draw(button.dataset.figure);
});

const figureOf = (chart) => chart.id.slice("chart-".length);
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((found) => found.isIntersecting)) {
    observer.unobserve(entry.target);
    draw(figureOf(entry.target));
  }
}, { rootMargin: "600px" });
document.querySelectorAll(".chart").forEach((chart) => observer.observe(chart));
const redraw = () => [...shown.keys()].forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => document.querySelectorAll(".chart").forEach((chart) => {
  if (!shown.has(figureOf(chart))) draw(figureOf(chart));
}));
