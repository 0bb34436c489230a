// A served page follows its study: it asks for a new version, and replaces the sections that changed.
const POLL_MS = 2000;
let version = document.body.dataset.version;

function replacePart(old, fresh) {
  const focusable = "a, button, input, select, summary, [tabindex]";
  const position = [...old.querySelectorAll(focusable)].indexOf(document.activeElement);
  const open = [...old.querySelectorAll("details[open]")].map((one) => one.dataset.key);
  for (const one of fresh.querySelectorAll("details")) one.open = open.includes(one.dataset.key);
  for (const chart of fresh.querySelectorAll(".chart")) {
    const kept = document.getElementById(chart.id);
    if (kept) { kept.style.minHeight = chart.style.minHeight; chart.replaceWith(kept); }
  }
  old.replaceWith(fresh);
  if (position >= 0) fresh.querySelectorAll(focusable)[position]?.focus({ preventScroll: true });
}

function update({ title, body, data }) {
  setData(data);
  document.title = title;
  for (const fresh of new DOMParser().parseFromString(body, "text/html").querySelectorAll(PARTS)) {
    if (original.get(fresh.id) === fresh.outerHTML) continue;
    original.set(fresh.id, fresh.outerHTML);
    replacePart(document.getElementById(fresh.id), document.importNode(fresh, true));
  }
  renderTrials();
  for (const chart of document.querySelectorAll(".chart")) {
    const figure = figureOf(chart);
    const next = DATA.charts[figure]?.[shown.get(figure)];
    if (!shown.has(figure)) observer.observe(chart);
    else if (JSON.stringify(next) !== drawn.get(figure)) draw(figure);
    else markTab(figure);
  }
}

function say(text, isProblem = false) {
  const line = document.getElementById("live");
  line.classList.toggle("problem", isProblem);
  if (line.textContent !== text) line.textContent = text;
}

async function poll() {
  try {
    const answer = await fetch(`update?version=${version}`, { cache: "no-store" });
    if (answer.status === 200) {
      const fresh = await answer.json();
      version = fresh.version;
      update(fresh);
    }
    const problem = answer.status >= 400 ? await answer.text() : "";
    say(problem ? `${problem} The last state is shown.` : "Live: this page follows the study.", Boolean(problem));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;  // fetch raises TypeError if the server does not answer
    say("The server of this page has ended. The last state is shown.", true);
  }
}

async function follow() {
  if (!document.hidden) await poll();
  setTimeout(follow, POLL_MS);
}
follow();
