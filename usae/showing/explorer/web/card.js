// A concept's card: images, each model's heatmaps on them, maximised pictures, numbers, neighbours.
const name = (model) => h("b", { class: "model", style: { "--colour": colourOf(model) } }, model);
const PHI = "phi: correlation of the fires of the two, over the held-out tokens of all models together; 0 is chance";
const phi = (row) => h("small", { title: PHI }, ` ${decimals(value("refines_phi", row))}`);
const levelChip = (row) => {
  const [level, parent] = [value("level", row), value("refines", row)];
  if (level === null) return "";
  return h("span", { class: "chip plain level" }, `level ${level}`, parent !== null ? [", refines ", concept(parent), phi(row)] : level > 1 ? ", refines none" : "");
};
// The concepts that refine this one, the largest phi first.
const MOST_FINER = 12;
const finerList = (id) => {
  const rows = (DATA.concepts.refines ?? []).flatMap((parent, row) => (parent === id ? [row] : [])).sort((a, b) => value("refines_phi", b) - value("refines_phi", a) || a - b);
  if (!rows.length) return "";
  const links = rows.slice(0, MOST_FINER).map((row, place) => [place ? ", " : "", concept(DATA.concepts.id[row]), phi(row)]);
  return h("div", { class: "near finer" }, h("p", {}, tip("refined by", PHI), ": ", links, rows.length > MOST_FINER ? ` and ${number(rows.length - MOST_FINER)} more` : ""));
};
const chips = (id, row, card) => {
  const kind = DATA.concepts.kind[row];
  const meaning = "precision: share of its fires, summed over models, on tokens with this label; recall: share of the tokens with this label on which it fires; IoU: of both together; base: share of all tokens with it";
  const fits = (fit) => [`precision ${share(fit.precision)}`, fit.recall === undefined ? "" : `recall ${share(fit.recall)}`, fit.iou === undefined ? "" : `IoU ${decimals(fit.iou)}`, `base ${share(fit.base)}`].filter(Boolean).join(", ");
  return [
    h("span", { class: "kind", style: { "--colour": colourOf(kind) ?? "inherit" } }, kindName(kind)),
    levelChip(row),
    DATA.labels[row].map((fit, place) => h("span", { class: `chip label${place ? " plain" : ""}${isFaint(fit) ? " faint" : ""}`, title: `${fits(fit)}. ${meaning}` }, fit.label, " ", h("small", {}, place ? `IoU ${decimals(fit.iou)}` : fits(fit)))),
    (card?.labels ?? []).map((fit) => h("span", { class: "chip plain", title: `of all concepts, the one whose fires in ${fit.model} overlap most with the label's tokens` }, fit.label, " ", h("small", {}, `best of ${fit.model}, IoU ${decimals(fit.iou)}`))),
    value("stops_at", row) ? h("span", { class: "chip plain", title: value("why", row) ?? "it passes every step" }, value("stops_at", row) === "universal" ? "passes the funnel" : `funnel: stops at \u201c${value("stops_at", row)}\u201d`) : "",
  ];
};

const strip = (view, row) =>
  view.images.map((image, place) => {
    const caption = `image ${image}${DATA.captions[image] ? `, ${DATA.captions[image]}` : ""}`;
    if (row < 0) return h("a", { class: "tile", href: link({ image }) }, h("img", { class: "photo", src: DATA.photos[image], alt: caption, title: `${caption}: look closer` }));
    const top = view.tops[row][place];
    const told = `${MODELS[row]} on image ${image}: ${top ? `largest code ${number(top)}` : "not among the strongest"}`;
    return h("div", { class: "tile", role: "img", "aria-label": told, ...reading(view, place, () => MODELS.map(name)) }, h("img", { class: "photo dim", src: DATA.photos[image], alt: "" }), heatmap(view, place, row));
  });
const imageRows = (id, card) => {
  const rankings = Object.keys(card.rankings);
  if (!rankings.length) return h("p", { class: "empty" }, "No image ranks for this concept.");
  const wanted = card.owner && state.images === "mean" && card.rankings[card.owner] ? card.owner : state.images;
  const ranking = card.rankings[wanted] ? wanted : rankings[0];
  const [view, row] = [card.rankings[ranking], ROW.get(id)];
  const n = view.images.length;
  const lines = MODELS.map((model, place) => {
    const numbers = DATA.perModel[model];
    return h("div", { class: "row" },
      h("span", { class: "name" }, name(model), numbers.fires[row] ? [h("small", {}, `co-fires ${share(numbers.cofire_proportion[row])} of ${number(numbers.fires[row])}`), h("small", {}, view.peaks[place] ? `scale 0 to ${number(topOf(view, place))}` : "not on these images"), spread(card, place)] : h("small", {}, "never fires")),
      strip(view, place));
  });
  const by = ranking === "mean" ? "highest mean code over models" : `highest code in ${ranking}`;
  return h("div", { class: "rows", tabindex: 0, role: "group", "aria-label": `Images and heatmaps of concept ${id}`, style: { "--n": n } },
    h("div", { class: "row" }, h("span", { class: "name" }, "image", h("small", {}, by)), strip(view, -1)), lines);
};

// Bands of all images on which it fires: the best ones flatter.
const BANDS = { top: "highest codes", middle: "around the median", weakest: "lowest codes", random: "any, drawn by the seed" };
const bandsBlock = (id, card) => {
  if (!card.bands) return "";
  const { images, heat, codes, of, peak } = card.bands;
  const view = { heat, peaks: [peak], heats: codes.length };
  let last = -1;
  const tiles = (band) => images[band].map((image) => {
    const place = (last += 1);
    const told = `image ${image}: largest mean code ${number(codes[place])}`;
    return h("a", { class: "tile", href: link({ image }), "aria-label": told, ...reading(view, place, () => [`image ${image}, mean over models`]) }, h("img", { class: "photo dim", src: DATA.photos[image], alt: "" }), heatmap(view, place, 0));
  });
  return h("section", { class: "bands" }, h("h4", {}, tip(`All ${number(of)} images on which it fires`, "ranked by the largest code in an image, mean over models; near-duplicates left out; heatmaps are means over models")), h("small", {}, `one scale, 0 to ${number(peak)}`),
    h("div", { class: "band-row" }, Object.entries(BANDS).map(([band, meaning]) => h("div", { class: "band", "data-band": band }, h("p", {}, h("b", {}, band), " ", h("small", {}, meaning)), h("div", { class: "tiles-of" }, tiles(band))))));
};
// How the codes of each model are spread.
const spread = (card, place) => {
  if (!card.histogram) return "";
  const counts = card.histogram.counts[place];
  const most = Math.max(...counts, 1);
  const bars = counts.map((count, bin) => s("rect", { x: 4 * bin, width: 3, y: 24 - (24 * Math.log1p(count)) / Math.log1p(most), height: (24 * Math.log1p(count)) / Math.log1p(most) }));
  const told = `${number(counts.reduce((a, b) => a + b))} fires by code, from 0 to ${number(card.histogram.top)}, heights logarithmic: ${counts.join(", ")}`;
  return s("svg", { class: "spread", viewBox: "0 0 64 24", role: "img", "aria-label": told, style: `--colour: ${colourOf(MODELS[place])}` }, s("title", {}, told), ...bars);
};

// The images of what it started as.
const STARTED = "held-out images on which its code is highest, mean over models, before the first training step; near-duplicates left out";
const startedBlock = (card) => {
  if (!card.started?.images.length) return "";
  const { images, kept, of } = card.started;
  const photos = images.map((image) => h("img", { src: DATA.photos[image], alt: `image ${image}`, title: DATA.captions[image] ?? "" }));
  return h("div", { class: "started" }, h("p", {}, tip("before its first step", STARTED), h("small", {}, `${kept} of its ${of} best images are so still`)), photos);
};

const curve = (line, colour) => {
  const [low, high] = [Math.min(...line), Math.max(...line)];
  const points = line.map((score, step) => `${((98 * step) / Math.max(line.length - 1, 1) + 1).toFixed(1)},${(27 - (25 * (score - low)) / (high - low || 1)).toFixed(1)}`);
  return s("svg", { class: "curve", viewBox: "0 0 100 28", role: "img", "aria-label": `score over steps, from ${number(line[0])} to ${number(line[line.length - 1])}` }, s("polyline", { points: points.join(" "), style: `--colour: ${colour}` }));
};
// The maximised pictures come in a file of their own, made after this page.
const maximised = () => content.maximised;
const maximisedBlock = (id) => {
  const made = maximised()?.cells[id];
  const also = [...(maximised()?.also ?? []), id].join(",");
  if (!made) return h("p", { class: "empty maximise" }, "No maximised image yet. This adds it to those that there are: ", h("code", {}, `dvc exp run -S 'maximise.also=[${also}]'`));
  const aboveOf = (i, j) => `above ${share(made.percentile[i][j] === null ? null : made.percentile[i][j] / 100)} of ${number(made.real_images)} real images`;
  const pictures = MODELS.map((model, i) => h("figure", { class: "best" },
    made.pictures[model] ? h("img", { src: made.pictures[model], alt: `Image that maximises concept ${id} for ${model}` }) : h("p", { class: "empty" }, "no file"),
    made.curves[model].length ? curve(made.curves[model], colourOf(model)) : "",
    h("figcaption", {}, name(model), h("small", {}, made.curves[model].length ? `score ${decimals(made.curves[model][0])} to ${decimals(made.curves[model].at(-1))}` : ""), h("small", {}, aboveOf(i, i)), h("small", {}, `again from another start: ${made.repeat[model] === null ? DASH : `cosine ${decimals(made.repeat[model])}`}`))));
  const head = h("tr", {}, h("th", { scope: "col" }, "made for"), MODELS.map((model) => h("th", { scope: "col", class: "number" }, name(model))));
  const shade = (z) => ({ "--shade": `${Math.max(0, Math.min(100, 20 * (z ?? 0)))}%` });
  const body = MODELS.map((model, i) => h("tr", {}, h("th", { scope: "row" }, name(model)), made.z[i].map((z, j) => h("td", { class: "number shade", style: shade(z), title: aboveOf(i, j) }, z === null ? DASH : z.toFixed(1).replace("-", "\u2212")))));
  const random = maximised().control;
  const control = random ? `${random.directions} random directions, maximised in the same way: ${number(random.own)} in the own model, ${number(random.others)} in the others (means).` : "";
  return h("section", { class: "maximised" }, h("h4", {}, "Maximised"), h("div", { class: "bests" }, pictures,
    h("div", { class: "transfer" }, h("table", {}, h("caption", {}, tip("who likes whose picture", "score of the whole picture, less the mean over real images, in standard deviations of real images (z); columns: the model that looks")), h("thead", {}, head), h("tbody", {}, body)), h("small", {}, control))));
};

const numbersTable = (row) => h("div", { class: "scroll" }, h("table", { class: "numbers-by-model" }, h("caption", {}, "In each model, on the held-out images"),
  h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "model"), DATA.modelColumns.filter((c) => DATA.perModel[MODELS[0]][c.name]).map((column) => h("th", { scope: "col", class: "number" }, tip(column.label, column.tip))))),
  h("tbody", {}, MODELS.map((model) => h("tr", {}, h("th", { scope: "row" }, name(model)), DATA.modelColumns.filter((c) => DATA.perModel[model][c.name]).map((column) => h("td", { class: "number" }, shown(column, DATA.perModel[model][column.name][row]))))))));
const SAME = 0.9; // decoder cosine above which two concepts are nearly one
const nearList = (card) => h("div", { class: "near" }, h("h4", {}, "Nearest concepts"), Object.entries(card.near).map(([way, pairs]) => h("p", {},
  h("span", { class: "way" }, way === "tokens" ? tip("by tokens", "tokens on which both fire, of those on which either does, summed over models") : ["decoder cosine, ", name(way)], ":"),
  pairs.length ? pairs.map(([id, close]) => h("span", { class: "neighbour" }, thumb(id), concept(id), " ", labelText(ROW.get(id)), h("small", {}, ` ${way === "tokens" ? share(close) : decimals(close)}`), way !== "tokens" && close > SAME ? h("b", { class: "same" }, `same as ${id} in ${way}`) : "")) : h("span", {}, "none"),
  DATA.randomNearest?.[way] === undefined ? "" : h("small", {}, `random rows: ${decimals(DATA.randomNearest[way])}`))));
const thumb = (id) => {
  const image = Object.values(DATA.cards[id]?.rankings ?? {})[0]?.images[0];
  return image === undefined ? "" : h("img", { src: DATA.photos[image], alt: "" });
};

const cardView = (id, open = false) => {
  const [row, card] = [ROW.get(id), cardOf(id)];
  const kind = DATA.concepts.kind[row];
  const facts = DATA.columns.filter((column) => column.name !== "level").map((column) => h("div", {}, h("dt", {}, tip(column.label, column.tip)), h("dd", { "data-field": column.name }, shown(column, value(column.name, row)))));
  const header = h("header", {}, h("h3", {}, concept(id, `Concept ${id}`)), chips(id, row, card));
  const article = (...content) => h("article", { class: `card${open ? " open" : ""}`, id: open ? "opened" : null, "data-card": id, tabindex: open ? -1 : null, "aria-label": `Concept ${id}` }, header, ...content);
  if (kind === "dead") return article(h("p", { class: "empty" }, `Concept ${id} never fires: on none of the ${number(DATA.tokens)} held-out tokens does its code exceed the threshold in any model, so it has no images and no maximised pictures.`));
  if (!card) return article(h("p", { class: "empty" }, waiting(id)));
  const why = open && value("why", row) ? h("p", { class: "why" }, `The funnel stops it at \u201c${value("stops_at", row)}\u201d: ${value("why", row)}.`) : "";
  const short = card.place ? h("p", { class: "short" }, `A short card. The first ${number(DATA.fullCards)} concepts have full ones, with more images, those of each model and the nearest concepts; `, h("code", {}, `dvc exp run -S report.concepts=${card.place}`), " makes this one of them.") : "";
  const details = [takeAway(id, row, card), why, finerList(id), h("dl", { class: "numbers" }, facts), numbersTable(row), Object.keys(card.near).length ? nearList(card) : "", short];
  if (open) return article(imageRows(id, card), bandsBlock(id, card), startedBlock(card), maximisedBlock(id), ...details);
  return article(imageRows(id, card), startedBlock(card), maximised()?.cells[id] ? maximisedBlock(id) : "", finerList(id), h("dl", { class: "numbers" }, facts));
};
