// The table of concepts.
const PER_PAGE = { table: 25, cards: 6, map: Infinity };

const concept = (id, ...children) => h("a", { href: link({ concept: id }), "data-concept": id }, ...(children.length ? children : [String(id)]));
const sortHead = (column, kind = null) => {
  const active = state.sort === column.name;
  const order = active && state.order === "desc" ? "asc" : "desc";
  const arrow = active ? (state.order === "desc" ? " \u2193" : " \u2191") : "";
  return h("th", { scope: "col", class: kind, "aria-sort": active ? `${state.order}ending` : "none" },
    h("a", { href: link({ sort: column.name, order, page: "1" }), title: column.tip, "data-sort": column.name }, column.label + arrow));
};
const tableView = (rows) => {
  const columns = [{ name: "id", label: "concept", tip: "number of the concept" }, { name: "top_label", label: "best matching label", tip: "the label with the largest IoU of fires and its tokens; grey below 0.2" }];
  const body = rows.map((row) => {
    const id = DATA.concepts.id[row];
    return h("tr", { "data-row": id, class: String(id) === state.concept ? "current" : null },
      h("th", { scope: "row" }, concept(id)),
      h("td", { class: isFaint(DATA.labels[row][0]) ? "faint" : null }, labelText(row) || DASH),
      h("td", {}, h("span", { class: "kind", style: { "--colour": colourOf(DATA.concepts.kind[row]) ?? "inherit" } }, kindName(DATA.concepts.kind[row]))),
      DATA.columns.map((column) => h("td", { class: "number" }, shown(column, value(column.name, row)))),
      DATA.concepts.stops_at ? h("td", { title: value("why", row) }, { universal: "passes" }[value("stops_at", row)] ?? value("stops_at", row) ?? DASH) : "");
  });
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Table of concepts" }, h("table", { class: "concepts" },
    h("thead", {}, h("tr", {}, columns.map((column) => sortHead(column)), h("th", { scope: "col" }, "kind"), DATA.columns.map((column) => sortHead(column, "number")), DATA.concepts.stops_at ? sortHead({ name: "stops_at", label: "funnel stops at", tip: "the first step that it does not pass" }) : "")), h("tbody", {}, body)));
};
