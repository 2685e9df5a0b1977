// Images over time, as bars, and the time span that is chosen of them.

const NAMESPACE = "http://www.w3.org/2000/svg";

export class Histogram {
  // `chosen(since, until)` is called with two Dates after a span was dragged.
  constructor(svg, chosen) {
    this.svg = svg;
    this.chosen = chosen;
    this.counts = [];
    svg.addEventListener("pointerdown", (event) => this.#begin(event));
  }

  // Draws `found` of the service: { since, until, counts }.
  draw(found) {
    this.counts = found.counts;
    this.first = Date.parse(found.since);
    this.last = Date.parse(found.until);
    const highest = Math.max(1, ...this.counts);
    this.svg.setAttribute("viewBox", `0 0 ${Math.max(1, this.counts.length)} 100`);
    this.bars = this.counts.map((count, i) => {
      const bar = document.createElementNS(NAMESPACE, "rect");
      // A single image is seen beside thousands.
      const height = count ? Math.max(3, (100 * count) / highest) : 0;
      const place = { x: i + 0.05, y: 100 - height, width: 0.9, height };
      Object.entries(place).forEach(([name, value]) => bar.setAttribute(name, value));
      bar.setAttribute("class", "bar");
      return bar;
    });
    this.svg.replaceChildren(...this.bars);
  }

  // Colours the bars of a span; null is no limit.
  mark(since, until) {
    const width = (this.last - this.first) / this.counts.length;
    this.bars?.forEach((bar, i) => {
      const begin = this.first + i * width;
      const inside = !(since && begin + width <= since) && !(until && begin >= until);
      bar.classList.toggle("chosen", inside);
    });
  }

  #begin(event) {
    if (!this.counts.length) return;
    this.svg.setPointerCapture(event.pointerId);
    const from = this.#place(event);
    const span = (to) => [Math.min(from, to), Math.max(from, to) + 1].map((i) => this.#time(i));
    const move = (each) => this.mark(...span(this.#place(each)));
    const end = (each) => {
      this.svg.removeEventListener("pointermove", move);
      this.svg.removeEventListener("pointerup", end);
      this.svg.removeEventListener("pointercancel", end);
      const [since, until] = span(this.#place(each));
      this.chosen(new Date(since), new Date(until));
    };
    move(event);
    this.svg.addEventListener("pointermove", move);
    this.svg.addEventListener("pointerup", end);
    this.svg.addEventListener("pointercancel", end);
  }

  #place(event) {
    const box = this.svg.getBoundingClientRect();
    const place = Math.floor(((event.clientX - box.left) / box.width) * this.counts.length);
    return Math.min(this.counts.length - 1, Math.max(0, place));
  }

  #time(place) {
    return this.first + ((this.last - this.first) * place) / this.counts.length;
  }
}
