// Heatmaps: the cells of a sheet (album.py) on another scale, without edges, and read under the pointer.
const TOP_LEVEL = DATA.palette.length - 1;
const sheets = new Map(); // a sheet's URI -> promise of its width and the levels of its pixels
const sheetOf = (view) => {
  if (!sheets.has(view.heat)) sheets.set(view.heat, decoded(view.heat));
  return sheets.get(view.heat);
};
const nearestLevel = (pixel) => {
  const far = (colour) => pixel.reduce((sum, part, channel) => sum + (part - colour[channel]) ** 2, 0);
  return DATA.palette.reduce((best, colour, level) => (far(colour) < far(DATA.palette[best]) ? level : best), 0);
};
const decoded = async (uri) => {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const { width, height } = image;
  const brush = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  brush.drawImage(image, 0, 0);
  const { data } = brush.getImageData(0, 0, width, height);
  return { width, levels: Uint8Array.from({ length: width * height }, (_, i) => (data[4 * i + 3] ? nearestLevel(data.subarray(4 * i, 4 * i + 4)) : 0)) };
};
const levelAt = (sheet, place, row, cell) => sheet.levels[(row * DATA.grid + Math.floor(cell / DATA.grid)) * sheet.width + place * DATA.grid + (cell % DATA.grid)];
const topOf = (view, row) => (state.scale === "common" ? Math.max(...view.peaks) : view.peaks[row]);

// The heatmap of an image, `place` of the sheet, in `row`: as the sheet has it, or painted anew where the reader asks for that.
const heatmap = (view, place, row) => {
  const [across, down] = [view.heats ?? view.images.length, view.peaks.length];
  const at = (index, count) => (count > 1 ? `${(100 * index) / (count - 1)}%` : "0%");
  const heat = h("div", { class: "heat", style: { "background-image": `url(${view.heat})`, "background-size": `${100 * across}% ${100 * down}%`, "background-position": `${at(place, across)} ${at(row, down)}` } });
  if (state.scale === "common" || state.cells === "smooth") paint(heat, view, place, row);
  return heat;
};
const paint = async (heat, view, place, row) => {
  const sheet = await sheetOf(view);
  const canvas = h("canvas", { width: DATA.grid, height: DATA.grid });
  const brush = canvas.getContext("2d");
  const painted = brush.createImageData(DATA.grid, DATA.grid);
  const share = view.peaks[row] / topOf(view, row);
  for (let cell = 0; cell < DATA.grid ** 2; cell += 1) {
    const level = levelAt(sheet, place, row, cell);
    painted.data.set(DATA.palette[level && Math.max(1, Math.round(level * share))], 4 * cell);
  }
  brush.putImageData(painted, 0, 0);
  heat.style.backgroundImage = "none";
  heat.replaceChildren(canvas);
};

// What the cell under the pointer holds, in every row: the sheet knows codes in TOP_LEVEL steps.
const readCell = async (event, view, place, rows) => {
  const { currentTarget: tile, offsetX, offsetY, clientX, clientY } = event;
  const sheet = await sheetOf(view);
  if (!tile.matches(":hover")) return;
  const along = (offset, size) => Math.max(0, Math.min(DATA.grid - 1, Math.floor((DATA.grid * offset) / size)));
  const [column, line] = [along(offsetX, tile.clientWidth), along(offsetY, tile.clientHeight)];
  const code = (row) => (levelAt(sheet, place, row, line * DATA.grid + column) * view.peaks[row]) / TOP_LEVEL;
  const told = rows.map((label, row) => h("div", { class: "code" }, label, h("b", {}, code(row) ? `about ${Number(code(row).toPrecision(2))}` : "none")));
  showHint({ clientX, clientY }, h("p", {}, `code at cell ${column + 1}, ${line + 1} (column, row)`), ...told);
};
const reading = (view, place, rows) => ({ onpointermove: (event) => readCell(event, view, place, rows()), onpointerleave: hideHint });
