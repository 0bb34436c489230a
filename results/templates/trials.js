// The table of all trials: rows, sorting, filtering, and each trial's train file and commands, made from DATA.trials.
const ROWS = 50;
const view = { column: "trial", descending: false, page: 0, open: new Set() };

const keyOf = (row) => `t${String(row.trial).padStart(4, "0")}`;
const isActive = (row, key) => !(row.inactive || []).includes(key);
const configOf = (row) => ({ ...DATA.trials.common, ...row.config });
const valueOf = (row, key) => parsed(row.config?.[key] ?? DATA.trials.common[key]) ?? (key === "read_step" ? row.readStep : null);

// A value of a train file: a number, or the text without quotes.
function parsed(text) {
  if (text === undefined) return null;
  return /^-?\d/.test(text) && !Number.isNaN(Number(text)) ? Number(text) : text.replace(/^"(.*)"$/, "$1");
}

function shortNumber(value) {
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= Math.max(factor, 1e4)) return `${Number((value / factor).toPrecision(3))} ${prefix}`;
  }
  return String(Number(value.toPrecision(4)));
}

function shortValue(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

let known = {};  // the columns, made once for each version of the data
function columns() {
  if (known.data !== DATA) known = { data: DATA, columns: makeColumns() };
  return known.columns;
}

function makeColumns() {
  const { metrics, numShown, keys, rows } = DATA.trials;
  const metric = ({ name, label }, index) => ({
    id: name, title: label, isNumber: true, value: (row) => row.metrics?.[index] ?? null,
    text: (value) => (name === "accuracy" ? value.toFixed(2) : shortNumber(value)),
  });
  const key = (name) => ({
    id: name, isNumber: true, value: (row) => (isActive(row, name) ? valueOf(row, name) : null), text: shortValue,
  });
  const found = [
    { id: "trial", value: (row) => row.trial, text: (value) => keyOf({ trial: value }) },
    { id: "state", value: (row) => row.state, text: String },
    { id: "epochs", isNumber: true, value: (row) => row.epochs, text: String },
    ...metrics.slice(0, numShown).map(metric),
    ...keys.map(key),
  ];
  if (rows.some((row) => row.duration_s !== undefined)) {
    const title = "Seconds from the start to the last epoch, pauses included";
    found.push({ id: "duration_s", title, isNumber: true, value: (row) => row.duration_s ?? null, text: shortNumber });
  }
  return [...found, { id: "reason", value: (row) => row.reason ?? null, text: String }];
}

// Filtering: words that occur anywhere in the row, and conditions such as accuracy>90; all must hold.
const CONDITION = /^([\w.]+)(<=|>=|!=|=|<|>)(.+)$/;
const COMPARE = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b,
};

function condition(text) {
  const found = CONDITION.exec(text);
  const { metrics, order, keys } = DATA.trials;
  if (!found) return null;
  const [, name, operator, wanted] = found;
  const hidden = metrics.findIndex((metric) => metric.name === name);
  const column = columns().find((one) => one.id === name);
  if (!column && hidden < 0 && !order.includes(name) && !keys.includes(name)) return null;
  const value = column ? column.value : hidden < 0 ? (row) => valueOf(row, name) : (row) => row.metrics?.[hidden] ?? null;
  return (row) => {
    const own = value(row);
    if (own === null) return operator === "!=";
    const number = name === "trial" ? Number(wanted.replace(/^t/, "")) : Number(wanted);
    if (typeof own === "number") return !Number.isNaN(number) && COMPARE[operator](own, number);
    return COMPARE[operator](shortValue(own).toLowerCase(), wanted.toLowerCase());
  };
}

function matcher(text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => condition(word) || ((row) => rowText(row).includes(word.toLowerCase())));
  return (row) => tests.every((test) => test(row));
}

function rowText(row) {
  const cells = columns().map((column) => [column, column.value(row)]).filter(([, value]) => value !== null);
  return [...cells.map(([column, value]) => column.text(value)), ...(row.labels || [])].join(" ").toLowerCase();
}

function matching() {
  const state = document.getElementById("trial-state").value;
  const fits = matcher(document.getElementById("trial-filter").value);
  const column = columns().find((one) => one.id === view.column) || columns()[0];
  const sign = view.descending ? -1 : 1;
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : shortValue(a).localeCompare(shortValue(b)));
  return DATA.trials.rows.filter((row) => (!state || row.state === state) && fits(row)).sort((first, second) => {
    const [a, b] = [column.value(first), column.value(second)];
    if (a === null || b === null) return (a === null) - (b === null) || first.trial - second.trial;  // empty cells last
    return sign * order(a, b) || first.trial - second.trial;
  });
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function renderHead() {
  const cells = columns().map((column) => {
    const sorted = column.id === view.column ? (view.descending ? "descending" : "ascending") : "none";
    const arrow = element("span", { "aria-hidden": "true" }, { none: "", ascending: " \u25b2", descending: " \u25bc" }[sorted]);
    const button = element("button", { type: "button", title: column.title || column.id, "data-sort": column.id }, column.id, arrow);
    return element("th", { scope: "col", className: column.isNumber ? "number" : "", "aria-sort": sorted }, button);
  });
  document.querySelector("#trial-table thead").replaceChildren(element("tr", {}, ...cells));
}

function renderRow(row) {
  const isOpen = view.open.has(row.trial);
  const id = `details-${keyOf(row)}`;
  const cells = columns().slice(1).map((column) => {
    const value = column.value(row);
    const className = column.id === "reason" ? "reason" : column.isNumber ? "number" : "";
    return element("td", { className, title: column.id === "reason" ? value ?? "" : "" }, value === null ? "" : column.text(value));
  });
  const toggle = element("button", { type: "button", "data-trial": row.trial, "aria-expanded": isOpen, "aria-controls": id }, keyOf(row));
  const badges = (row.labels || []).map((label) => element("mark", { className: label }, label));
  const head = element("th", { scope: "row" }, toggle, ...badges.flatMap((badge) => [" ", badge]));
  const line = element("tr", { id: keyOf(row) }, head, ...cells);
  return isOpen ? [line, element("tr", { id, className: "commands" }, element("td", { colSpan: columns().length }, ...details(row)))] : [line];
}

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);  // for a shell

function command(text) {
  return element("span", { className: "command" }, element("code", {}, text), element("button", { type: "button", "data-copy": "" }, "copy"));
}

function details(row) {
  const { source, folder, metrics } = DATA.trials;
  const home = `${folder}/${keyOf(row)}`;
  const train = `python -m trainers.run --config ${quoted(`${home}/${row.file}`)}`;
  const found = [];
  if (row.reason) found.push(element("p", {}, row.reason));
  if (row.state === "failed") {
    found.push(element("p", {}, "Failed trials are not exported. To train it again, save the train file below:"), command(`python -m trainers.run --config ${keyOf(row)}.yml`));
  } else {
    found.push(command(`python -m results.export ${source} --pick trial:${row.trial} --out ${quoted(home)}`), command(train));
  }
  if (row.metrics) {
    const texts = metrics.map(({ name }, index) => [name, row.metrics[index]]).filter(([, value]) => typeof value === "number");
    found.push(element("p", {}, `After epoch ${row.epochs}: ${texts.map(([name, value]) => `${name} ${shortNumber(value)}`).join(", ")}`));
  }
  if ((row.readOuts || []).length > 1) found.push(element("p", {}, `Read after step ${row.readOuts.join("; ")}`));
  found.push(element("div", { className: "file" }, element("pre", { tabIndex: 0, "aria-label": `Train file of ${keyOf(row)}` }, trainFile(row)), element("button", { type: "button", "data-copy": "" }, "copy")));
  return found;
}

function trainFile(row) {
  const config = configOf(row);
  return DATA.trials.order.filter((key) => key in config).map((key) => `${key}: ${config[key]}\n`).join("");
}

function renderTrials() {
  if (!DATA.trials) return;
  const rows = matching();
  const pages = Math.max(1, Math.ceil(rows.length / ROWS));
  view.page = Math.min(view.page, pages - 1);
  const first = view.page * ROWS;
  renderHead();
  document.querySelector("#trial-table tbody").replaceChildren(...rows.slice(first, first + ROWS).flatMap(renderRow));
  const total = DATA.trials.rows.length;
  const range = rows.length > ROWS ? `${first + 1} to ${Math.min(first + ROWS, rows.length)} of ` : "";
  const filtered = rows.length < total ? `, of ${total}` : "";
  document.getElementById("trial-count").textContent = `${range}${rows.length} ${rows.length === 1 ? "trial" : "trials"}${filtered}`;
  const turn = (text, page) => element("button", { type: "button", "data-page": page, disabled: page < 0 || page >= pages }, text);
  document.getElementById("trial-pages").replaceChildren(...(pages > 1 ? [turn("previous", view.page - 1), `page ${view.page + 1} of ${pages}`, turn("next", view.page + 1)] : []));
}

// Rendering replaces the buttons, so the focus moves to the new one.
function renderAndFocus(selector) {
  renderTrials();
  document.querySelector(selector)?.focus({ preventScroll: true });
}

function showTrial(key) {
  const number = Number(key.slice(1));
  if (!rowOf.has(number)) return;
  let position = matching().findIndex((row) => row.trial === number);
  if (position < 0) {
    setFilter("");
    position = matching().findIndex((row) => row.trial === number);
  }
  view.page = Math.floor(position / ROWS);
  view.open.add(number);
  renderAndFocus(`button[data-trial="${number}"]`);
  document.getElementById(key).scrollIntoView({ block: "center" });
}

function setFilter(text) {
  document.getElementById("trial-filter").value = text;
  document.getElementById("trial-state").value = "";
  view.page = 0;
}

const followHash = () => { if (/^#t\d{4,}$/.test(location.hash)) showTrial(location.hash.slice(1)); };

if (DATA.trials) {
  document.addEventListener("input", ({ target }) => {
    if (["trial-filter", "trial-state"].includes(target.id)) { view.page = 0; renderTrials(); }
  });
  document.addEventListener("click", ({ target }) => {
    const found = target.closest("[data-sort], [data-trial], [data-page], [data-filter], a[href^='#t']");
    if (!found) return;
    const { sort, trial, page, filter } = found.dataset;
    if (sort) {
      view.descending = sort === view.column && !view.descending;
      Object.assign(view, { column: sort, page: 0 });
      renderAndFocus(`[data-sort="${CSS.escape(sort)}"]`);
    } else if (trial) {
      if (!view.open.delete(Number(trial))) view.open.add(Number(trial));
      renderAndFocus(`[data-trial="${trial}"]`);
    } else if (page) {
      view.page = Number(page);
      renderAndFocus("#trial-pages button:not(:disabled)");
    } else if (filter) {
      setFilter(filter);
      renderTrials();
    } else if (found.hash === location.hash) followHash();  // a second click on the same link changes no hash
  });
  addEventListener("hashchange", followHash);
  renderTrials();
  followHash();
}
