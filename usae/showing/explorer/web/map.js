// The map: every concept as a point, over two numbers of choice.
// The coarse concept that a concept refines, itself where it refines none; its family is all with the same one.
const root = (id) => {
  const parent = ROW.has(id) ? value("refines", ROW.get(id)) : null;
  return parent === null ? id : root(parent);
};
// Numbers that span decades have logarithmic axes; what is 0 stands on a line of its own at their low end.
const LOGARITHMIC = ["energy", "lift", "fires", "cofires"];
const AXES = [
  ...["energy", "lift", "cofire_proportion_min", "firing_entropy", "fires", "cofires"].filter((name) => DATA.concepts[name]).map((name) => ({ key: name, label: DATA.columns.find((column) => column.name === name)?.label ?? name, log: LOGARITHMIC.includes(name), at: (row) => value(name, row) })),
  ...MODELS.map((model) => ({ key: `fires in ${model}`, label: `fires in ${model}`, log: true, at: (row) => DATA.perModel[model].fires[row] })),
];
const axisOf = (key, standard) => AXES.find((axis) => axis.key === key) ?? AXES.find((axis) => axis.key === standard) ?? AXES[0];
const [NARROWEST, WIDEST] = [320, 1100]; // of the map, in pixels
const ZERO = 22; // pixels between the line of zeros and the axis

const scaleOf = (axis, rows, from, to) => {
  const inward = Math.sign(to - from) * ZERO;
  const position = (x) => (axis.log ? Math.log10(x) : x);
  const drawn = rows.map(axis.at).filter((x) => !axis.log || x > 0).map(position);
  const zeros = axis.log && rows.some((row) => axis.at(row) === 0);
  const [low, high] = drawn.length ? [Math.min(...drawn), Math.max(...drawn)] : [0, 1];
  const start = zeros ? from + inward : from;
  return { low, high, zeros, zero: from, at: (x) => (axis.log && x <= 0 ? from : start + ((position(x) - low) / (high - low || 1)) * (to - start)) };
};
const ticksOf = (axis, scale) => {
  if (!axis.log) return Array.from({ length: 5 }, (_, n) => scale.low + (n / 4) * (scale.high - scale.low));
  const steps = [1, 2, 5].map(Math.log10);
  const decades = Array.from({ length: 24 }, (_, n) => n - 12);
  return decades.flatMap((n) => (scale.high - scale.low > 3 ? [n] : steps.map((step) => n + step))).filter((n) => n >= scale.low && n <= scale.high).map((n) => 10 ** n);
};
const tick = (x) => number(Number(x.toPrecision(3)));

// What a point is, beside it: its label and its first images.
const showPoint = (event, id, told) => {
  const images = Object.values(DATA.cards[id]?.rankings ?? {})[0]?.images.slice(0, 3) ?? [];
  showHint(event, h("p", {}, told), h("div", {}, images.map((image) => h("img", { src: DATA.photos[image], alt: "" }))));
};

const pickAxes = (x, y) => h("p", { class: "axes" }, [["x", x, "across"], ["y", y, "up"]].map(([key, axis, way]) => h("label", {}, way, " ", h("select", { "data-axis": key, onchange: (event) => go({ [key]: event.target.value }) }, AXES.map((each) => h("option", { value: each.key, selected: each.key === axis.key }, each.label))))));
const mapView = (rows) => {
  const width = Math.max(NARROWEST, Math.min(WIDEST, at("list").clientWidth - 24)); // as wide as it is drawn: text keeps its size
  const [height, left, bottom] = [460, 62, 46];
  const [across, up] = [axisOf(state.x, "energy"), axisOf(state.y, "lift")];
  const points = rows.filter((row) => across.at(row) !== null && up.at(row) !== null);
  if (!points.length) return h("p", { class: "empty" }, `None of these concepts has both numbers, ${across.label} and ${up.label}.`);
  const [x, y] = [scaleOf(across, points, left, width - 14), scaleOf(up, points, height - bottom, 14)];
  const marks = [
    ...ticksOf(across, x).map((n) => [s("line", { class: "grid", x1: x.at(n), x2: x.at(n), y1: 14, y2: height - bottom }), s("text", { x: x.at(n), y: height - bottom + 18, "text-anchor": "middle" }, tick(n))]),
    ...ticksOf(up, y).map((n) => [s("line", { class: "grid", y1: y.at(n), y2: y.at(n), x1: left, x2: width - 14 }), s("text", { x: left - 8, y: y.at(n) + 4, "text-anchor": "end" }, tick(n))]),
    x.zeros ? s("text", { x: x.zero, y: height - bottom + 18, "text-anchor": "middle" }, "0") : [],
    y.zeros ? s("text", { x: left - 8, y: y.zero + 4, "text-anchor": "end" }, "0") : [],
  ].flat();
  const place = (row) => [x.at(across.at(row)), y.at(up.at(row))];
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
    const dot = s("a", { href: link({ concept: id }), class: `dot ${kindClass(kind)}${String(id) === state.concept ? " current" : ""}`, "data-concept": id, "aria-label": `concept ${id} ${labelText(row)}`, tabindex: -1 },
      s("circle", { cx, cy, r }));
    const told = `concept ${id} ${labelText(row)}, ${kindName(kind)}: ${across.label} ${number(across.at(row))}, ${up.label} ${number(up.at(row))}`;
    dot.addEventListener("pointerenter", (event) => showPoint(event, id, told));
    dot.addEventListener("pointerleave", hideHint);
    if (MODELS.includes(kind)) dot.style.setProperty("--colour", colourOf(kind));
    return dot;
  });
  const named = (axis) => DATA.columns.find((column) => column.name === axis.key)?.tip ?? `${axis.label}, on the held-out tokens`;
  const names = [s("text", { x: width / 2, y: height - 6, "text-anchor": "middle" }, across.label, s("title", {}, named(across))), s("text", { x: -height / 2, y: 16, transform: "rotate(-90)", "text-anchor": "middle" }, up.label, s("title", {}, named(up)))];
  const silent = points.filter((row) => value("cofires", row) === 0).length;
  const said = `${number(points.length)} drawn, ${number(silent)} of them never co-fire in all models${rows.length > points.length ? `; ${number(rows.length - points.length)} have no such number` : ""}.`;
  const coloured = (kind) => ["universal", "shared", "unique"].includes(kindClass(kind));
  const legend = kindsOf(points).filter(coloured).map((kind) => h("span", {}, h("i", { class: `key ${kindClass(kind)}`, style: { "--colour": colourOf(kind) ?? "inherit" } }), kindName(kind)));
  if (!points.every((row) => coloured(DATA.concepts.kind[row]))) legend.push(h("span", {}, h("i", { class: "key" }), "others"));
  if (coarse) legend.push(h("span", {}, "large: level 1; of an open concept, lines lead to what it refines and what refines it"));
  return h("div", { class: "map" }, pickAxes(across, up), h("p", { class: "legend" }, legend), h("p", { class: "said" }, said), s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${points.length} concepts by ${across.label} and ${up.label}; the table has the same numbers` }, ...marks, ...names, ...lines, ...dots));
};
