// Which models share a concept. `has`: all of these agree on it, pair by pair; `lacks`: none of these agrees with any of them.
const fires = (model, row) => (DATA.perModel[model].fires[row] ?? 0) >= DATA.support;
const agree = (one, two, row) => (DATA.pairs[`${one}+${two}`] ?? DATA.pairs[`${two}+${one}`])?.[row] === "1";
const listed = (text) => text.split(",").filter((model) => MODELS.includes(model));
const sharedBy = (has, lacks, row) =>
  has.every((model, place) => fires(model, row) && has.slice(place + 1).every((other) => agree(model, other, row))) &&
  lacks.every((model) => (has.length ? !has.some((other) => agree(model, other, row)) : !fires(model, row)));

// Every set of models that share some concept and no other model does, the largest first.
const MOST_SETS = 12;
const sets = () => {
  const found = [];
  for (let bits = 1; bits < 2 ** Math.min(MODELS.length, 10); bits += 1) {
    const has = MODELS.filter((_, place) => (bits >> place) & 1), lacks = MODELS.filter((model) => !has.includes(model));
    const count = DATA.concepts.id.filter((_, row) => sharedBy(has, lacks, row)).length;
    if (count) found.push({ has, lacks, count });
  }
  return found.sort((a, b) => b.count - a.count);
};
const upsetView = () => {
  const all = sets(), most = Math.max(...all.map((set) => set.count));
  const rows = all.slice(0, MOST_SETS).map(({ has, lacks, count }) => h("a", { class: "set", href: link({ has: has.join(","), lacks: lacks.join(","), page: "1", view: state.view === "map" ? "cards" : state.view }), "data-set": has.join("+"), "aria-label": `${count} concepts of ${has.join(" and ")}${lacks.length ? `, not of ${lacks.join(" or ")}` : ""}` },
    MODELS.map((model) => h("i", { class: `member${has.includes(model) ? " in" : ""}`, style: { "--colour": colourOf(model) } })), h("span", { class: "bar-of" }, h("i", { style: { width: `${(100 * count) / most}%` } })), h("b", {}, number(count))));
  return h("div", { class: "upset" }, h("p", { class: "members" }, MODELS.map((model) => h("b", { class: "model", style: { "--colour": colourOf(model) } }, model))), rows, all.length > MOST_SETS ? h("p", {}, `and ${all.length - MOST_SETS} smaller sets`) : "");
};
const pickers = () => MODELS.map((model) => h("label", {}, h("b", { class: "model", style: { "--colour": colourOf(model) } }, model), h("select", { "data-pick": model, "aria-label": `${model} has the concept`, onchange: (event) => pick(model, event.target.value) }, [["", "any"], ["has", "has it"], ["lacks", "lacks it"]].map(([set, label]) => h("option", { value: set }, label)))));
const pick = (model, wanted) => {
  const without = (text) => listed(text).filter((other) => other !== model);
  const [has, lacks] = [without(state.has), without(state.lacks)];
  if (wanted) ({ has, lacks })[wanted].push(model);
  go({ has: has.join(","), lacks: lacks.join(","), page: "1" });
};
const showPicked = () => {
  for (const select of document.querySelectorAll("[data-pick]")) select.value = listed(state.has).includes(select.dataset.pick) ? "has" : listed(state.lacks).includes(select.dataset.pick) ? "lacks" : "";
};
