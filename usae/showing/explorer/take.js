// What can be taken away from a card: its link, its numbers, and its row of the tables.
const save = (name, kind, text) => {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
};
const numbersOf = (row) => ({
  concept_id: DATA.concepts.id[row], kind: kindName(DATA.concepts.kind[row]), stops_at: value("stops_at", row), why: value("why", row), labels: DATA.labels[row],
  ...Object.fromEntries(DATA.columns.map((column) => [column.name, value(column.name, row)])),
  models: Object.fromEntries(MODELS.map((model) => [model, Object.fromEntries(Object.entries(DATA.perModel[model]).map(([name, column]) => [name, column[row]]))])),
});
const asCsv = (row) => {
  const { labels, models, ...own } = numbersOf(row);
  const flat = { ...own, labels: labels.map((fit) => fit.label).join("; "), ...Object.fromEntries(Object.entries(models).flatMap(([model, numbers]) => Object.entries(numbers).map(([name, found]) => [`${name}.${model}`, found]))) };
  const cell = (found) => (found === null || found === undefined ? "" : /[",\n]/.test(String(found)) ? `"${String(found).replaceAll('"', '""')}"` : String(found));
  return `${Object.keys(flat).map(cell).join(",")}\n${Object.values(flat).map(cell).join(",")}\n`;
};
const takeAway = (id, row, card) => {
  const copied = h("span", { role: "status" });
  const copy = (text, told) => navigator.clipboard.writeText(text).then(() => { copied.textContent = told; }, () => { copied.textContent = text; });
  const button = (label, onclick) => h("button", { type: "button", onclick }, label);
  return h("p", { class: "take" },
    button("copy link", () => copy(location.href.split("#")[0] + `#concept=${id}`, "copied")),
    button("JSON", () => save(`concept-${id}.json`, "application/json", JSON.stringify({ ...numbersOf(row), images: Object.fromEntries(Object.entries(card.rankings).map(([ranking, view]) => [ranking, view.images])), near: card.near }, null, 1))),
    button("CSV", () => save(`concept-${id}.csv`, "text/csv", asCsv(row))), copied);
};

// Heatmaps of all rows on one scale: a sheet's cells in the colours of their codes' share of the largest of all rows.
const sheets = new Map();
const level = (pixel) => {
  let best = 0;
  DATA.palette.forEach((colour, place) => {
    const far = (one) => one.reduce((sum, part, channel) => sum + (part - pixel[channel]) ** 2, 0);
    if (far(colour) < far(DATA.palette[best])) best = place;
  });
  return best;
};
const common = (view) => {
  if (!sheets.has(view.heat)) sheets.set(view.heat, recoloured(view));
  return sheets.get(view.heat);
};
const recoloured = async (view) => {
  const image = new Image();
  image.src = view.heat;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.drawImage(image, 0, 0);
  const cells = brush.getImageData(0, 0, image.width, image.height), pixels = cells.data;
  const [top, rows, last] = [Math.max(...view.peaks), image.height / view.peaks.length, DATA.palette.length - 1];
  for (let place = 0; place < pixels.length; place += 4) {
    if (!pixels[place + 3]) continue;
    const peak = view.peaks[Math.floor(place / 4 / image.width / rows)];
    const shared = Math.max(1, Math.round((level(pixels.subarray(place, place + 4)) * peak) / top));
    pixels.set(DATA.palette[Math.min(last, shared)], place);
  }
  brush.putImageData(cells, 0, 0);
  return canvas.toDataURL();
};
