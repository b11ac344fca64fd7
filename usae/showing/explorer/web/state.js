// All state of the page is in the URL's hash, so that every view has its link.
const DATA = JSON.parse(document.getElementById("data").textContent);
const MODELS = DATA.models.map((model) => model.name);
const colourOf = (name) => DATA.models[MODELS.indexOf(name)]?.colour;
const ROW = new Map(DATA.concepts.id.map((id, row) => [id, row]));
const value = (name, row) => (DATA.concepts[name] ? DATA.concepts[name][row] : null);

const DEFAULTS = {
  view: "cards", sort: "cofire_proportion_min", order: "desc", kind: "", q: "", label: "", stop: "", level: "",
  lift: "", energy: "", low: "", high: "", page: "1", concept: "", image: "", has: "", lacks: "", x: "energy", y: "lift", scale: "own", under: "grey", cells: "sharp", images: "mean", opacity: "0.85",
};
const state = { ...DEFAULTS };
const readHash = () => {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const [key, standard] of Object.entries(DEFAULTS)) state[key] = found.get(key) ?? standard;
  if (!MODELS.includes(state.images)) state.images = DEFAULTS.images; // a link from elsewhere may name anything
};
const link = (changes) => {
  const wanted = { ...state, ...changes };
  const kept = Object.entries(wanted).filter(([key, set]) => String(set) !== DEFAULTS[key]);
  return `#${new URLSearchParams(kept)}`;
};
// `quiet` replaces the entry of the history: for typing and sliding.
const go = (changes, quiet = false) => {
  history[quiet ? "replaceState" : "pushState"](null, "", link(changes));
  update();
};

const KINDS = {
  universal: DATA.readable ? "universal" : "passes every step",
  shared: DATA.steps.includes("stable") ? "shared, not found again" : "shared by all",
  some: "shared by some pairs", none: "no agreement", agreed: "agrees, no control asked", unasked: "not put to the test", dead: "never fires",
};
const pairOf = (kind) => (kind in KINDS || MODELS.includes(kind) ? null : kind.split("+"));
const kindName = (kind) => KINDS[kind] ?? (pairOf(kind) ? `shared by ${pairOf(kind).join(" and ")}` : `unique to ${kind}`);
const kindClass = (kind) => (MODELS.includes(kind) ? "unique" : pairOf(kind) ? "some" : kind);
// Those that there are, the most shared first.
const kindsOf = (rows) => {
  const there = new Set(rows.map((row) => DATA.concepts.kind[row]));
  const pairs = [...there].filter(pairOf).sort();
  return ["universal", "shared", "agreed", ...pairs, "some", ...MODELS, "none", "unasked", "dead"].filter((kind) => there.has(kind));
};
// One rule for what a concept is called: the labels that name it, the best first.
const FAINT = 0.2; // IoU below which a label hardly names it
const labelsOf = (row) => DATA.labels[row].map((fit) => fit.label);
const labelText = (row) => labelsOf(row)[0] ?? "";
const isFaint = (fit) => fit?.iou !== undefined && fit.iou !== null && fit.iou < FAINT;
const text = (row) => `${labelsOf(row).join(" ")} ${kindName(DATA.concepts.kind[row])} ${value("stops_at", row) ?? ""}`.toLowerCase();
// Words are joined by AND: a number is a concept's, lift>50 compares a column, all else is part of a label, kind or step.
const COMPARISON = /^([a-z-]+)(<=|>=|<|>)(-?[\d.]+)$/;
const wordMatches = (word, row) => {
  if (/^\d+$/.test(word)) return String(DATA.concepts.id[row]) === word;
  const [, name, sign, limit] = word.match(COMPARISON) ?? [];
  const column = name && DATA.columns.find((each) => each.label.toLowerCase().startsWith(name) || each.name === name);
  if (!column) return text(row).includes(word);
  const found = value(column.name, row);
  return found !== null && (sign[0] === "<" ? found < Number(limit) : found > Number(limit)) || (sign.length > 1 && found === Number(limit));
};
const words = () => state.q.trim().toLowerCase().split(/\s+/).filter(Boolean);
const within = (set, low, high) => (low === "" || (set !== null && set >= Number(low))) && (high === "" || (set !== null && set <= Number(high)));
const matches = (row) =>
  (!state.kind || DATA.concepts.kind[row] === state.kind) &&
  (!state.label || labelsOf(row).includes(state.label)) &&
  (!state.stop || value("stops_at", row) === state.stop) &&
  (!state.level || String(value("level", row)) === state.level) &&
  words().every((word) => wordMatches(word, row)) &&
  sharedBy(listed(state.has), listed(state.lacks), row) &&
  within(value("lift", row), state.lift, "") &&
  within(value("energy", row), state.energy, "") &&
  within(value("firing_entropy", row), state.low, state.high);

// How far a concept comes in the funnel: the number of the step that stops it, one more where none does.
const reached = (row) => {
  const step = value("stops_at", row);
  return step === null ? null : DATA.steps.includes(step) ? DATA.steps.indexOf(step) : DATA.steps.length;
};

// Rows that match, in order; undefined numbers come last either way.
const selected = () => {
  const sign = state.order === "asc" ? 1 : -1;
  const key = (row) => (state.sort === "id" ? DATA.concepts.id[row] : state.sort === "stops_at" ? reached(row) : value(state.sort, row));
  const compare = (a, b) => {
    const [one, two] = [key(a), key(b)];
    if (one === null || two === null) return (one === null) - (two === null) || a - b;
    return sign * (typeof one === "string" ? one.localeCompare(two) : one - two) || a - b;
  };
  let rows = DATA.concepts.id.map((_, row) => row).filter(matches);
  if (state.view === "cards" && !state.q && state.kind !== "dead") rows = rows.filter(pictured);
  return rows.sort(compare);
};
