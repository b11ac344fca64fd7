// Sorting and filtering by block; all else works without it.
const DASHES = { desc: -Infinity, asc: Infinity };

const sort = (table, column, order) => {
  const place = [...table.tHead.rows[0].cells].indexOf(column);
  const rank = (row) => (row.cells[place].dataset.rank === undefined ? DASHES[order] : Number(row.cells[place].dataset.rank));
  for (const body of table.tBodies) {
    const rows = [...body.rows].slice(1);
    rows.sort((one, two) => (order === "desc" ? rank(two) - rank(one) : rank(one) - rank(two)) || 0);
    body.append(...rows);
  }
  for (const head of table.tHead.rows[0].cells) head.setAttribute("aria-sort", head === column ? `${order}ending` : "none");
};

for (const table of document.querySelectorAll("table.methods")) {
  for (const column of table.querySelectorAll("thead th[data-name]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...column.childNodes);
    button.querySelector(".tip").removeAttribute("tabindex");
    button.setAttribute("aria-description", button.querySelector(".tip").dataset.tip);
    column.append(button);
    button.addEventListener("click", () => sort(table, column, column.getAttribute("aria-sort") === "descending" ? "asc" : "desc"));
  }
}

const filter = document.querySelector(".filter");
const show = () => {
  for (const box of filter.querySelectorAll("input")) {
    for (const body of document.querySelectorAll(`tbody[data-block="${box.value}"]`)) body.hidden = !box.checked;
  }
};
if (filter) {
  for (const block of document.querySelectorAll("#quality tbody[data-block]")) {
    const [label, box] = [document.createElement("label"), document.createElement("input")];
    Object.assign(box, { type: "checkbox", value: block.dataset.block, checked: true });
    box.addEventListener("change", show);
    label.append(box, ` ${block.dataset.block}`);
    filter.append(label);
  }
  filter.prepend("Show ");
  filter.hidden = false;
}
document.documentElement.dataset.complete = "true";
