// What can be taken away from a card: its link, its numbers, and the line that reads its rows of a table.
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
const csvCell = (found) => (found === null || found === undefined ? "" : /[",\n]/.test(String(found)) ? `"${String(found).replaceAll('"', '""')}"` : String(found));
const copyText = (text, told, place) => navigator.clipboard.writeText(text).then(() => { place.textContent = told; }, () => { place.textContent = text; });
const asCsv = (row) => {
  const { labels, models, ...own } = numbersOf(row);
  const flat = { ...own, labels: labels.map((fit) => fit.label).join("; "), ...Object.fromEntries(Object.entries(models).flatMap(([model, numbers]) => Object.entries(numbers).map(([name, found]) => [`${name}.${model}`, found]))) };
  return `${Object.keys(flat).map(csvCell).join(",")}\n${Object.values(flat).map(csvCell).join(",")}\n`;
};
const takeAway = (id, row, card) => {
  const copied = h("span", { role: "status" });
  const button = (label, onclick) => h("button", { type: "button", onclick }, label);
  return h("p", { class: "take" },
    button("copy link", () => copyText(location.href.split("#")[0] + `#concept=${id}`, "copied", copied)),
    button("copy for pandas", () => copyText(`pandas.read_parquet("reports/concept_models.parquet").query("concept_id == ${id}")`, "copied", copied)),
    button("JSON", () => save(`concept-${id}.json`, "application/json", JSON.stringify({ ...numbersOf(row), images: Object.fromEntries(Object.entries(card.rankings).map(([ranking, view]) => [ranking, view.images])), near: card.near }, null, 1))),
    button("CSV", () => save(`concept-${id}.csv`, "text/csv", asCsv(row))), copied);
};
