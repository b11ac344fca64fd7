// One image: large, a row per model with its concepts. Pointing at a concept lights its cells, at a cell lists its concepts.
const LISTED = 12; // concepts in a row
const QUIET = 15, LOUDEST = 255; // levels of codes, see image_files.py
const fileOf = (image) => {
  const place = (codeFiles ?? []).findIndex((images) => images.includes(image));
  return place < 0 ? null : `codes-${String(place + 1).padStart(2, "0")}`;
};
const inflated = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
// Per model the codes of an image: { token, concept, code, fires }, strongest first.
const unpacked = async (packed) => {
  const bytes = await inflated(packed.codes);
  const planes = Math.max(1, Math.ceil(Math.ceil(Math.log2(DATA.concepts.id.length)) / 8));
  const size = bytes.length / (planes + 1), each = size / MODELS.length, k = each / DATA.grid ** 2;
  return MODELS.map((_, model) => Array.from({ length: each }, (_, slot) => {
    const place = model * each + slot, level = bytes[planes * size + place];
    const id = Array.from({ length: planes }, (_, plane) => bytes[plane * size + place] << (8 * plane)).reduce((sum, part) => sum + part);
    const code = level > QUIET ? DATA.threshold + (packed.peaks[model] - DATA.threshold) * ((level - QUIET - 1) / (LOUDEST - QUIET - 1)) ** 2 : (DATA.threshold * level) / QUIET;
    return { token: Math.floor(slot / k), concept: id, code, fires: level > QUIET };
  }).filter((each) => each.fires).sort((a, b) => b.code - a.code));
};
const seen = {}; // image -> its codes, its larger photo; null where there are none
const look = (image) => {
  const name = fileOf(image);
  if (image in seen || !name) return;
  load(name).then(async (file) => {
    const packed = file?.images[image];
    seen[image] = packed ? { codes: await unpacked(packed), photo: packed.photo, peaks: packed.peaks } : null;
    if (state.image === String(image)) update();
  });
};

const imageView = (image) => {
  look(image);
  const close = h("p", { class: "bar" }, h("button", { type: "button", onclick: () => go({ image: "" }) }, "close image"));
  const head = h("header", {}, h("h3", {}, `Image ${image}`), DATA.captions[image] ? h("span", {}, DATA.captions[image]) : "");
  const article = (...rest) => [close, h("article", { class: "card open alone", id: "image", tabindex: -1, "aria-label": `Image ${image}` }, head, ...rest)];
  if (codeFiles && !fileOf(image)) return article(h("p", { class: "empty" }, `The codes of image ${image} are not beside this page. Raise `, h("code", {}, "report.megabytes"), " and run ", h("code", {}, "dvc repro report"), "."));
  if (seen[image] === null) return article(h("p", { class: "empty" }, `Its codes are in explorer/${fileOf(image)}.js, which is not beside this page.`));
  if (!seen[image]) return article(h("p", { class: "empty" }, "Its codes are on their way."));
  const { codes, photo, peaks } = seen[image];
  const cells = Array.from({ length: DATA.grid ** 2 }, (_, token) => h("i", { "data-token": token, onpointerenter: () => list(token), onclick: () => list(token) }));
  const said = h("p", { class: "said", role: "status" });
  const lists = MODELS.map(() => h("p", { class: "found" }));
  // Light a concept's cells in one model; none lights nothing.
  const light = (model, id) => {
    const byToken = new Map(id === null ? [] : codes[model].filter((each) => each.concept === id).map((each) => [each.token, each.code]));
    cells.forEach((cell, token) => {
      const code = byToken.get(token);
      cell.className = id === null ? "" : code ? "lit" : "dark";
      cell.style.setProperty("--colour", colourOf(MODELS[model ?? 0]));
      cell.style.setProperty("--share", code ? 0.35 + (0.65 * code) / peaks[model] : 0);
      cell.title = code ? `code ${number(code)}` : "";
    });
  };
  const chip = (model) => ({ concept: id, code, tokens }) => h("a", { class: "spot", href: link({ concept: id, image: "" }), "data-concept": id,
    onpointerenter: () => light(model, id), onpointerleave: () => light(null, null), onfocus: () => light(model, id), onblur: () => light(null, null) },
    h("b", {}, String(id)), " ", h("span", { class: isFaint(DATA.labels[ROW.get(id)][0]) ? "faint" : null }, labelText(ROW.get(id))), h("small", {}, ` ${number(code)}${tokens ? ` on ${tokens}` : ""}`));
  const fill = (model, found) => lists[model].replaceChildren(...found.slice(0, LISTED).map(chip(model)), found.length > LISTED ? h("small", {}, `and ${number(found.length - LISTED)} more`) : found.length ? "" : h("small", {}, "none fires"));
  // What fires at a cell; without one, in all of the image, by the largest code.
  const list = (token) => {
    cells.forEach((cell, place) => cell.classList.toggle("at", place === token));
    said.textContent = token === null ? "Point at a concept to see where it fires, at a cell to see what fires there." : `Cell ${1 + (token % DATA.grid)}, ${1 + Math.floor(token / DATA.grid)} (column, row): all that fires there.`;
    MODELS.forEach((_, model) => {
      if (token !== null) return fill(model, codes[model].filter((each) => each.token === token));
      const found = new Map();
      for (const each of codes[model]) found.set(each.concept, { concept: each.concept, code: Math.max(each.code, found.get(each.concept)?.code ?? 0), tokens: 1 + (found.get(each.concept)?.tokens ?? 0) });
      fill(model, [...found.values()]);
    });
  };
  list(null);
  const picture = h("div", { class: "large", style: { "--grid": DATA.grid, "background-image": `url(${photo ?? DATA.photos[image]})` }, role: "img", "aria-label": `image ${image}`, onpointerleave: () => list(null) }, cells);
  const rows = MODELS.map((model, place) => h("div", { class: "fires" }, h("p", {}, name(model), h("small", {}, ` ${number(new Set(codes[place].map((each) => each.concept)).size)} concepts fire, ${number(codes[place].length)} codes`)), lists[place]));
  return article(h("div", { class: "looking" }, h("div", {}, picture, said), h("div", {}, rows)));
};
