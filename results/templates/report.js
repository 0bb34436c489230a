"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const shown = new Map();  // figure -> label of its tab; figures are drawn when they scroll into view
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

function hoverText(point) {
  if (point === null) return "";
  const [trial, read] = point;
  const steps = DATA.steps[trial];
  const early = steps && read < steps ? `read after ${read} of ${steps} steps<br>` : "";
  return early + wrapped(DATA.hoverTexts[trial] || "");
}

function wrapped(text) {
  const lines = [""];
  for (const line of text.split("\n")) {
    for (const word of line.split(" ")) {
      const longer = `${lines[lines.length - 1]} ${word}`.trim();
      if (longer.length > 64) lines.push(word); else lines[lines.length - 1] = longer;
    }
    lines.push("");
  }
  return lines.filter(Boolean).join("<br>");
}

function layoutOf(layout, style) {
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--rule"), zerolinecolor: colour("--rule"), automargin: true };
  const themed = {
    paper_bgcolor: colour("--paper"), plot_bgcolor: colour("--paper"), hovermode: "closest", dragmode: "zoom",
    font: { family: "system-ui, sans-serif", size: 13, color: colour("--ink") },
    margin: { l: 70, r: 24, t: 16, b: 56 },
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
    hoverlabel: { align: "left", bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
    ...coloured(layout, style),
  };
  for (const name of Object.keys(themed)) if (/^[xy]axis/.test(name)) themed[name] = { ...axis, ...themed[name] };
  return themed;
}

function draw(figure) {
  const style = getComputedStyle(document.documentElement);
  const chart = DATA.charts[figure][shown.get(figure)];
  const data = chart.data.map((trace) => {
    const ready = coloured(trace, style);
    if (trace.customdata && !trace.text) ready.text = trace.customdata.map(hoverText);
    if (trace.type === "scattergl" && !hasWebGL()) ready.type = "scatter";
    return ready;
  });
  const options = { displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: `${document.title.split(":")[0]}-${figure}` } };
  return Plotly.react(`chart-${figure}`, data, layoutOf(chart.layout, style), options);
}

for (const button of document.querySelectorAll("button[data-tab]")) {
  button.addEventListener("click", () => {
    const { figure, tab } = button.dataset;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    shown.set(figure, tab);
    draw(figure);
  });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((found) => found.isIntersecting)) {
    observer.unobserve(entry.target);
    const figure = entry.target.id.slice("chart-".length);
    shown.set(figure, Object.keys(DATA.charts[figure])[0]);
    draw(figure);
  }
}, { rootMargin: "600px" });
document.querySelectorAll(".chart").forEach((chart) => observer.observe(chart));
const redraw = () => [...shown.keys()].forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => document.querySelectorAll(".chart").forEach((chart) => {
  const figure = chart.id.slice("chart-".length);
  if (!shown.has(figure)) { shown.set(figure, Object.keys(DATA.charts[figure])[0]); draw(figure); }
}));
