// The table of concepts, and the map: every concept as a point.
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
  const columns = [{ name: "id", label: "concept", tip: "number of the concept" }, { name: "top_label", label: "label", tip: "label whose share among the fires exceeds its base rate most" }];
  const body = rows.map((row) => {
    const id = DATA.concepts.id[row];
    return h("tr", { "data-row": id, class: String(id) === state.concept ? "current" : null },
      h("th", { scope: "row" }, concept(id), DATA.carded[id] ? h("span", { class: "has", title: "with images" }, " \u25a0") : ""),
      h("td", {}, value("top_label", row) ?? DASH),
      h("td", {}, h("span", { class: "kind", style: { "--colour": colourOf(DATA.concepts.kind[row]) ?? "inherit" } }, kindName(DATA.concepts.kind[row]))),
      DATA.columns.map((column) => h("td", { class: "number" }, shown(column, value(column.name, row)))),
      DATA.concepts.stops_at ? h("td", { title: value("why", row) }, { universal: "passes" }[value("stops_at", row)] ?? value("stops_at", row) ?? DASH) : "");
  });
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Table of concepts" }, h("table", { class: "concepts" },
    h("thead", {}, h("tr", {}, columns.map((column) => sortHead(column)), h("th", { scope: "col" }, "kind"), DATA.columns.map((column) => sortHead(column, "number")), DATA.concepts.stops_at ? sortHead({ name: "stops_at", label: "funnel stops at", tip: "the first step that it does not pass" }) : "")), h("tbody", {}, body)));
};

// The coarse concept that a concept refines, itself where it refines none; its family is all with the same one.
const root = (id) => {
  const parent = ROW.has(id) ? value("refines", ROW.get(id)) : null;
  return parent === null ? id : root(parent);
};
// Agreement over energy; logarithmic, as both span decades.
const AXES = { x: "energy", y: "lift" };
const mapView = (rows) => {
  const [width, height, left, bottom] = [860, 460, 62, 46];
  const points = rows.filter((row) => value(AXES.x, row) > 0 && value(AXES.y, row) > 0);
  const scale = (name, from, to) => {
    const logs = points.map((row) => Math.log10(value(name, row)));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    return { low, high, at: (x) => from + ((Math.log10(x) - low) / (high - low || 1)) * (to - from) };
  };
  if (!points.length) return h("p", { class: "empty" }, "None of these concepts has a lift and an energy above 0.");
  const [x, y] = [scale(AXES.x, left, width - 14), scale(AXES.y, height - bottom, 14)];
  const decades = Array.from({ length: 24 }, (_, n) => n - 12);
  const steps = [1, 2, 5].map(Math.log10);
  const ticks = (axis) => decades.flatMap((n) => (axis.high - axis.low > 3 ? [n] : steps.map((step) => n + step))).filter((n) => n >= axis.low && n <= axis.high);
  const plain = (n) => number(Number((10 ** n).toPrecision(3)));
  const marks = [
    ...ticks(x).map((n) => [s("line", { class: "grid", x1: x.at(10 ** n), x2: x.at(10 ** n), y1: 14, y2: height - bottom }), s("text", { x: x.at(10 ** n), y: height - bottom + 18, "text-anchor": "middle" }, plain(n))]),
    ...ticks(y).map((n) => [s("line", { class: "grid", y1: y.at(10 ** n), y2: y.at(10 ** n), x1: left, x2: width - 14 }), s("text", { x: left - 8, y: y.at(10 ** n) + 4, "text-anchor": "end" }, plain(n))]),
  ].flat();
  const place = (row) => [x.at(value(AXES.x, row)), y.at(value(AXES.y, row))];
  const drawn = new Set(points);
  const coarse = new Set(DATA.concepts.level ?? []).size > 1;
  const family = state.concept ? points.filter((row) => value("refines", row) !== null && root(DATA.concepts.id[row]) === root(Number(state.concept))) : [];
  const lines = family.filter((row) => drawn.has(ROW.get(value("refines", row)))).map((row) => {
    const [[x1, y1], [x2, y2]] = [place(row), place(ROW.get(value("refines", row)))];
    return s("line", { class: "family", x1, y1, x2, y2 });
  });
  const dots = points.map((row) => {
    const [cx, cy] = place(row);
    const r = !coarse ? 4.5 : value("level", row) === 1 ? 6.5 : 3.5;
    const [id, kind] = [DATA.concepts.id[row], DATA.concepts.kind[row]];
    const dot = s("a", { href: link({ concept: id }), class: `dot ${kindClass(kind)}${String(id) === state.concept ? " current" : ""}`, "data-concept": id, "aria-label": `concept ${id}`, tabindex: -1 },
      s("circle", { cx, cy, r }, s("title", {}, `concept ${id} ${value("top_label", row) ?? ""}, ${kindName(kind)}: lift ${number(value("lift", row))}, energy ${number(value("energy", row))}`)));
    if (MODELS.includes(kind)) dot.style.setProperty("--colour", colourOf(kind));
    return dot;
  });
  const names = [s("text", { x: width / 2, y: height - 6, "text-anchor": "middle" }, "energy (norm of the mean contribution)"), s("text", { x: -height / 2, y: 16, transform: "rotate(-90)", "text-anchor": "middle" }, "lift: co-fires over chance")];
  const coloured = (kind) => ["universal", "shared", "unique"].includes(kindClass(kind));
  const legend = kindsOf(points).filter(coloured).map((kind) => h("span", {}, h("i", { class: `key ${kindClass(kind)}`, style: { "--colour": colourOf(kind) ?? "inherit" } }), kindName(kind)));
  if (!points.every((row) => coloured(DATA.concepts.kind[row]))) legend.push(h("span", {}, h("i", { class: "key" }), "others"));
  if (coarse) legend.push(h("span", {}, "large: level 1; of an open concept, lines lead to what it refines and what refines it"));
  return h("div", { class: "map" }, h("p", { class: "legend" }, legend), s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${points.length} concepts by energy and lift; the table has the same numbers` }, ...marks, ...names, ...lines, ...dots));
};
