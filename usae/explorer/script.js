// Filters and the heatmap slider; without this script the page shows every card.
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const [find, kind, opacity, count] = ["find", "kind", "opacity", "count"].map((id) => document.getElementById(id));
  if (!find) return;
  const filter = () => {
    const words = find.value.trim().toLowerCase();
    for (const card of cards) {
      card.hidden = !card.dataset.text.toLowerCase().includes(words) || (kind.value && card.dataset.kind !== kind.value);
    }
    const shown = cards.filter((card) => !card.hidden).length;
    count.textContent = shown === cards.length ? `${shown} concepts` : `${shown} of ${cards.length} concepts`;
  };
  find.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  opacity.addEventListener("input", () => document.body.style.setProperty("--opacity", opacity.value));
  filter();
})();
