// Files beside the page: each is a script that hands its content over by name, loaded once, when it is looked at.
const content = {};
const arrivals = {};
window.receive = (name, data) => { content[name] = data; };
// The content of a file, or null where it is not there.
const load = (name, folder = "explorer/") => (arrivals[name] ??= new Promise((resolve) => {
  const end = () => resolve(content[name] ?? null);
  document.head.append(h("script", { src: `${folder}${name}.js`, onload: end, onerror: end }));
}));

let codeFiles = null; // images of each file of codes; null until all of the page is read
let files = null; // of the cards beside the page, by concept; null until all of the page is read
const missing = new Set();
const pictured = (row) => DATA.concepts.kind[row] !== "dead";
// The card of a concept, asked for where it lies beside the page; what it says meanwhile.
const cardOf = (id) => {
  const name = files?.[id];
  if (DATA.cards[id] || !name || missing.has(name)) return DATA.cards[id];
  load(name).then((part) => {
    if (part) Object.assign(DATA.cards, part.cards), Object.assign(DATA.photos, part.photos);
    else missing.add(name);
    update();
  });
  return undefined;
};
const waiting = (id) => {
  if (!files) return "Its images are further down in this file; a moment.";
  if (missing.has(files[id])) return `Its images are in explorer/${files[id]}.js, which is not beside this page.`;
  return files[id] ? "Its images are on their way." : "It has no images.";
};
