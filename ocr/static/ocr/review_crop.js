// A line cut out of the page and laid level, so that its text can be compared with what was read.

import { bounds, rectangle } from "./review_model.js";

const HIGHEST = 64; // CSS pixels a row: a heading should not push the text away.
const LOWEST = 22; // Below, letters can't be told apart: the line goes on in another row.
const LARGEST = 2; // Times the page's own pixels: beyond, there is nothing more to see.
const OVERLAP = 0.6; // Heights of the line, seen at the end of a row and again in the next.

/** `page`: its {width, height}, in whose pixels the polygon is; `room`: CSS pixels across. */
export function drawCrop(canvas, image, page, polygon, room) {
  if (room <= 0 || !image.complete || !image.naturalWidth) return;
  const { left, top, right, low } = bounds(polygon);
  const corners = polygon.length === 4 ? polygon : rectangle(left, top, right, low);
  const [leftTop, rightTop, rightLow, leftLow] = corners;
  const length = (one, other) => Math.hypot(other[0] - one[0], other[1] - one[1]);
  const width = Math.max(length(leftTop, rightTop), length(leftLow, rightLow), 1);
  const height = Math.max(length(leftTop, leftLow), length(rightTop, rightLow), 1);
  const angle = Math.atan2(rightTop[1] - leftTop[1], rightTop[0] - leftTop[0]);
  // A little of what stands around the line is shown with it.
  const [aside, above] = [height * 0.3, height * 0.15];
  const [across, down] = [width + 2 * aside, height + 2 * above];

  const fitting = Math.min(room / across, HIGHEST / down, LARGEST);
  let scale = Math.min(Math.max(fitting, LOWEST / down), LARGEST);
  // Rows of one length: a last one of a single letter would tell nothing.
  const overlap = Math.min(OVERLAP * height, room / scale / 2);
  const rows = Math.max(1, Math.ceil((across - overlap) / (room / scale - overlap)));
  const rowWidth = (across + (rows - 1) * overlap) / rows;
  const step = rowWidth - overlap;
  scale = Math.min(room / rowWidth, HIGHEST / down, LARGEST);
  const dense = window.devicePixelRatio || 1;
  canvas.style.width = `${rowWidth * scale}px`;
  canvas.style.height = `${down * scale * rows}px`;
  canvas.width = Math.round(rowWidth * scale * dense);
  canvas.height = Math.round(down * scale * rows * dense);
  const pen = canvas.getContext("2d");
  pen.scale(scale * dense, scale * dense);
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, rowWidth, down * rows);
  for (let row = 0; row < rows; row += 1) {
    pen.save();
    pen.beginPath();
    pen.rect(0, row * down, rowWidth, down);
    pen.clip();
    pen.translate(aside - row * step, above + row * down);
    pen.rotate(-angle);
    pen.translate(-leftTop[0], -leftTop[1]);
    // What the server drew may have other pixels than the page that was read.
    pen.drawImage(image, 0, 0, page.width, page.height);
    pen.restore();
  }
}
