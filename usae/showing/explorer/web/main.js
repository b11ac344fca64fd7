// Controls, keys, and what is shown.
const at = (id) => document.getElementById(id);
const fields = ["q", "kind", "label", "stop", "level", "lift", "energy", "low", "high", "sort", "images", "scale-by", "under", "cells", "opacity"];
const keyOf = (field) => (field === "scale-by" ? "scale" : field);

const fill = (id, options) => at(id).append(...options.map(([set, label, count]) => h("option", { value: set, disabled: count === 0 }, count === undefined ? label : `${label} (${number(count)})`)));
const prepare = () => {
  const rows = DATA.concepts.id.map((_, row) => row);
  const labels = [...new Set(rows.flatMap(labelsOf))].sort();
  const counted = (set, label, has) => [set, label, rows.filter(has).length];
  const found = new Set(DATA.concepts.stops_at ?? []);
  const stops = [...DATA.steps, "universal"].filter((step) => found.has(step));
  const levels = [...new Set(DATA.concepts.level ?? [])].sort((a, b) => a - b);
  fill("kind", kindsOf(rows).map((kind) => counted(kind, kindName(kind), (row) => DATA.concepts.kind[row] === kind)));
  fill("label", labels.map((label) => counted(label, label, (row) => labelsOf(row).includes(label))));
  fill("stop", stops.map((step) => counted(step, step, (row) => value("stops_at", row) === step)));
  fill("level", levels.map((level) => counted(level, level, (row) => value("level", row) === level)));
  at("pickers").append(...(Object.keys(DATA.pairs).length ? pickers() : []));
  fill("sort", [["id", "number"], ...DATA.columns.map((column) => [column.name, column.label]), ...(stops.length ? [["stops_at", "funnel stops at"]] : [])]);
  fill("images", [["mean", "mean over models"], ...MODELS.map((model) => [model, model])]);
  at("label").closest("label").hidden = !labels.length;
  at("stop").closest("label").hidden = !stops.length;
  at("level").closest("label").hidden = !levels.length;
  for (const field of fields) {
    const quiet = field === "opacity" || at(field).type === "search" || at(field).type === "number";
    at(field).addEventListener(quiet ? "input" : "change", () => go({ [keyOf(field)]: at(field).value, ...(["images", "scale-by", "under", "cells", "opacity"].includes(field) ? {} : { page: "1" }) }, quiet));
  }
  at("random").addEventListener("click", random);
  at("clear").addEventListener("click", () => go({ ...DEFAULTS, view: state.view, opacity: state.opacity }));
};

const random = () => {
  const rows = selected().filter(pictured);
  const pool = rows.length ? rows : DATA.concepts.id.map((_, row) => row);
  go({ concept: String(DATA.concepts.id[pool[Math.floor(Math.random() * pool.length)]]) });
};
const step = (by) => {
  const rows = selected();
  if (!rows.length) return;
  const place = rows.findIndex((row) => String(DATA.concepts.id[row]) === state.concept);
  go({ concept: String(DATA.concepts.id[rows[place < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, place + by))]]) });
};

const opened = () => [...(/^\d+$/.test(state.image) ? imageView(Number(state.image)) : []), ...openedConcept()];
const openedConcept = () => {
  if (!state.concept) return [];
  const id = Number(state.concept);
  const bar = h("p", { class: "bar" }, h("button", { type: "button", onclick: () => step(-1) }, "\u2190 previous"), h("button", { type: "button", onclick: () => step(1) }, "next \u2192"), h("button", { type: "button", onclick: () => go({ concept: "" }) }, "close"), h("small", {}, "keys: \u2190 \u2192, Esc, ? for all"));
  if (!ROW.has(id)) return [h("p", { class: "empty", id: "opened", role: "alert" }, `There is no concept ${state.concept}: this dictionary has ${number(DATA.concepts.id.length)}, from ${Math.min(...DATA.concepts.id)} to ${Math.max(...DATA.concepts.id)}.`), h("p", { class: "bar" }, h("button", { type: "button", onclick: () => go({ concept: "" }) }, "close"))];
  return [bar, cardView(id, true)];
};
const pager = (pages, page) => pages < 2 ? [] : [
  page > 1 ? h("a", { href: link({ page: page - 1 }), rel: "prev" }, "\u2190 back") : "", h("span", {}, `page ${page} of ${pages}`),
  page < pages ? h("a", { href: link({ page: page + 1 }), rel: "next" }, "more \u2192") : "",
];

let [shownConcept, shownImage, arrived] = ["", "", false];
const update = () => {
  readHash();
  for (const field of fields) if (at(field).value !== state[keyOf(field)]) at(field).value = state[keyOf(field)];
  document.body.style.setProperty("--opacity", state.opacity);
  document.body.dataset.under = state.under;
  document.body.dataset.cells = state.cells;
  at("pane").className = state.view === "map" && state.concept ? "beside" : "";
  hideHint();
  showPicked();
  at("upset").replaceChildren(Object.keys(DATA.pairs).length ? upsetView() : "");
  for (const view of document.querySelectorAll("[data-view]")) {
    view.setAttribute("href", link({ view: view.dataset.view, page: "1" }));
    view.setAttribute("aria-current", view.dataset.view === state.view ? "true" : "false");
  }
  const rows = selected();
  const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE[state.view]));
  const page = Math.max(1, Math.min(pages, Number(state.page) || 1));
  const listed = state.view === "cards" && state.concept ? rows.filter((row) => String(DATA.concepts.id[row]) !== state.concept) : rows;
  const part = state.view === "map" ? rows : listed.slice((page - 1) * PER_PAGE[state.view], page * PER_PAGE[state.view]);
  const views = { table: tableView, map: mapView, cards: (list) => h("div", {}, list.map((row) => cardView(DATA.concepts.id[row]))) };
  at("scale").hidden = state.view !== "cards" && !state.concept;
  at("count").textContent = `${number(rows.length)} of ${number(DATA.concepts.id.length)} concepts`;
  at("open").replaceChildren(...opened());
  at("list").replaceChildren(rows.length ? views[state.view](part) : h("p", { class: "empty" }, DATA.concepts.kind.every((kind) => kind === "dead")
    ? "No concept fires, so there is none to show. Train longer or on more images, then run dvc repro; the loss curve above says whether training works at all."
    : "No concept matches. The button \u201cclear\u201d removes all filters."));
  at("pager").replaceChildren(...pager(pages, page));
  const fresh = at("image") && state.image !== shownImage ? "image" : state.concept && state.concept !== shownConcept ? "opened" : null;
  if (fresh && (state.view !== "map" || !arrived)) at(state.view === "map" ? "pane" : "open").scrollIntoView({ block: "start" });
  arrived = true;
  [shownConcept, shownImage] = [state.concept, state.image];
  document.title = `${state.concept ? `${ROW.has(Number(state.concept)) ? "Concept" : "No concept"} ${state.concept}: u` : "U"}niversal concepts of ${MODELS.join(", ")}`;
};

const KEYS = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Escape: () => go(state.image ? { image: "" } : { concept: "" }), r: random, t: () => go({ view: "table", page: "1" }), c: () => go({ view: "cards", page: "1" }), m: () => go({ view: "map" }), "/": () => at("q").focus(), "?": () => { const help = document.querySelector(".help"); help.open = true; help.scrollIntoView(); } };
document.body.append(hint);
addEventListener("keydown", (event) => {
  const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  if (writing && event.key === "Escape") event.target.blur();
  if (writing || (event.key.startsWith("Arrow") && event.target.closest(".scroll, .rows"))) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const anchor of document.querySelectorAll("[data-section]")) anchor.addEventListener("click", (event) => { event.preventDefault(); at(anchor.dataset.section).scrollIntoView(); });
addEventListener("hashchange", update);
addEventListener("popstate", update);
// A table as CSV, into the clipboard.
const csvOf = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => csvCell(cell.textContent.trim())).join(",")).join("\n");
const prepareCopies = () => {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copyText(csvOf(button.closest(".whole").querySelector("table")), "copied", button.nextElementSibling));
  }
};
// The first cards come early in the file, the others at its end.
const merge = () => {
  const rest = JSON.parse(at("rest").textContent);
  Object.assign(DATA.cards, rest.cards);
  Object.assign(DATA.photos, rest.photos);
  [files, codeFiles] = [rest.files, rest.codeFiles];
  if (state.view === "cards" || state.concept || state.image) { shownConcept = ""; update(); }
  document.documentElement.dataset.complete = String(Math.round(performance.now()));
};
prepare();
update();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
addEventListener("DOMContentLoaded", merge);
addEventListener("DOMContentLoaded", prepareCopies);
load("maximised", "").then((made) => { if (made && (state.view === "cards" || state.concept)) update(); });
