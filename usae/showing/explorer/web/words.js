// Numbers and elements. The rules for numbers are those of wording.py.
const DASH = "\u2013";
const number = (value) => {
  if (value === null || value === undefined) return DASH;
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(2)));
};
const share = (value) => {
  if (value === null || value === undefined) return DASH;
  const percent = 100 * value;
  const fine = (Math.abs(percent) > 0 && Math.abs(percent) < 9.95) || (percent > 99 && percent < 100);
  return `${percent.toFixed(fine ? 1 : 0)} %`;
};
const decimals = (value) => (value === null || value === undefined ? DASH : value.toFixed(2).replace("-", "\u2212"));
const shown = (column, value) => (column.share ? share(value) : number(value));

// h("p", {class: "x", onclick: f}, "text", child): text stays text, whatever it holds.
const h = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, set] of Object.entries(value)) element.style.setProperty(name, set);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
};
const SVG = "http://www.w3.org/2000/svg";
const s = (name, attributes, ...children) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
// Beside the pointer: what it points at.
const hint = h("div", { class: "hint", hidden: true });
const showHint = (event, ...told) => {
  hint.replaceChildren(...told);
  hint.hidden = false;
  hint.style.left = `${Math.min(event.clientX + 14, innerWidth - 230)}px`;
  hint.style.top = `${Math.min(event.clientY + 14, innerHeight - 150)}px`;
};
const hideHint = () => { hint.hidden = true; };
// A heading whose meaning and denominator appear on hover, focus and tap.
const tip = (label, text) => h("span", { class: "tip", tabindex: 0, "data-tip": text, "aria-label": `${label}: ${text}` }, label);
