// The map: a point for each image on a canvas of our own, with its picture beside it when it is pointed at.

const MOST_COLORS = 5;
const REACH = 14;
const MARGIN = 12;
const CLOSEST = 40;

function showMap(show) {
  if (!DATA.map?.images.length) return;
  by('map').hidden = false;
  const { images, total, source } = DATA.map;
  const left = images.length < total ? `, ${number(images.length)} of ${number(total)}` : '';
  by('map-about').append(
    `What looks alike lies together${left}; `, word(source), '. Point at an image to see it; with the keyboard, the arrow keys go from image to image.',
  );
  const map = new ImageMap(by('map-canvas'), by('map-tip'), DATA.map, show);
  map.listen();
  const words = { light: 'set-up of light', content: 'kind of content' };
  const clusters = Object.keys(DATA.map.clusters).map((kind) => make('option', { value: kind, text: words[kind] }));
  by('map-by').append(...clusters);
  map.colorBy('kind');
  by('map-in').addEventListener('click', () => map.zoomBy(1.6));
  by('map-out').addEventListener('click', () => map.zoomBy(1 / 1.6));
  by('map-all').addEventListener('click', () => map.zoomBy(0));
  by('map-by').addEventListener('change', (event) => map.colorBy(event.target.value));
  by('theme').addEventListener('change', () => map.draw());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => map.draw());
}

class ImageMap {
  constructor(canvas, tip, { x, y, images, pictures, clusters }, show) {
    Object.assign(this, { canvas, tip, images, pictures, clusters, show });
    this.x = unpack(x);
    this.y = unpack(y);
    this.cards = new Map();
    DATA.cards.forEach((card, place) => this.cards.set(card.image, [...(this.cards.get(card.image) ?? []), place]));
    this.zoom = 1;
    this.middle = [0.5, 0.5];
    this.chosen = null;
  }

  /** What a point is colored by: the kind of its surest finding, its split, or the cluster that it is in. */
  valueOf(name, i) {
    const image = this.images[i];
    if (name === 'split') return DATA.split_of[image] ?? 'none';
    if (name !== 'kind') return this.clusters[name].names[this.clusters[name].of[i]];
    const kind = DATA.cards[this.cards.get(image)?.[0]]?.kind;
    return kind && plain(kind);
  }

  /** Color the points; the most frequent values have colors. */
  colorBy(name) {
    const values = this.images.map((_, i) => this.valueOf(name, i));
    this.values = name === 'kind' ? [] : values;
    const counts = new Map();
    for (const each of values) counts.set(each, (counts.get(each) ?? 0) + 1);
    const none = counts.get(undefined) ?? 0;
    counts.delete(undefined);
    const order = [...counts].sort((a, b) => b[1] - a[1]).map(([each]) => each);
    const colors = new Map(order.map((each, place) => [each, Math.min(place, MOST_COLORS) + 1]));
    this.colors = values.map((each) => colors.get(each) ?? 0);
    const own = order.length > MOST_COLORS + 1 ? MOST_COLORS : order.length;
    const rows = order.slice(0, own).map((each) => [colors.get(each), each, counts.get(each)]);
    const rest = order.slice(own).reduce((sum, each) => sum + counts.get(each), 0);
    if (rest) rows.push([MOST_COLORS + 1, 'others', rest]);
    if (none) rows.push([0, name === 'kind' ? 'no finding' : 'in none', none]);
    showLegend(rows);
    this.draw();
  }

  /** Where a point is on the canvas. */
  place(i) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [
      width / 2 + (this.x[i] - this.middle[0]) * this.zoom * (width - 2 * MARGIN),
      height / 2 + (this.y[i] - this.middle[1]) * this.zoom * (height - 2 * MARGIN),
    ];
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext('2d');
    pen.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const radius = Math.min(5, 2 + 40 / Math.sqrt(this.images.length) + this.zoom / 4);
    for (let index = 0; index <= MOST_COLORS + 1; index += 1) {
      pen.fillStyle = style.getPropertyValue(colorName(index));
      pen.beginPath();
      this.images.forEach((_, i) => {
        if (this.colors[i] !== index) return;
        const [px, py] = this.place(i);
        pen.moveTo(px + radius, py);
        pen.arc(px, py, radius, 0, 7);
      });
      pen.fill();
    }
    if (this.chosen === null) return;
    pen.lineWidth = 2.5;
    pen.strokeStyle = style.getPropertyValue('--ink');
    pen.beginPath();
    pen.arc(...this.place(this.chosen), radius + 4, 0, 7);
    pen.stroke();
  }

  /** Show an image beside its point; nothing to hide it. */
  choose(i, aloud) {
    this.chosen = i;
    this.draw();
    this.tip.hidden = i === null;
    if (i === null) return;
    const cards = this.cards.get(this.images[i]) ?? [];
    const name = DATA.names[this.images[i]];
    const kinds = [...new Set(cards.map((each) => plain(DATA.cards[each].kind)))].join(', ');
    const places = [this.pictures[i], ...cards.map((each) => DATA.cards[each].picture)];
    const shown = places.find((each) => each !== null && each !== undefined && DATA.pictures[each]);
    const go = () => filterTo({ text: name }, this.show);
    this.tip.replaceChildren(
      shown === undefined ? '' : picture(shown, name),
      make('div', {}, word(name)),
      ...(this.values[i] === undefined ? [] : [make('div', {}, make('strong', {}, word(this.values[i])))]),
      cards.length
        ? make('button', { type: 'button', class: 'link', click: go }, `${counted(cards.length, 'findings', 'finding')}: `, word(kinds))
        : make('div', { class: 'quiet', text: 'no finding' }),
    );
    const [px, py] = this.place(i);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.tip.style.left = `${Math.max(0, px > width / 2 ? px - this.tip.offsetWidth - 16 : px + 16)}px`;
    this.tip.style.top = `${Math.max(0, Math.min(py - 20, height - this.tip.offsetHeight))}px`;
    if (aloud) say([name, this.values[i], cards.length ? kinds : 'no finding'].filter(Boolean).join(', '));
  }

  /** The image of the least distance; nothing if all are as far as `most`. A distance may be infinite. */
  nearest(distance, most = Infinity) {
    let [best, least] = [null, most];
    for (let i = 0; i < this.images.length; i += 1) {
      const found = distance(i);
      if (found < least) [best, least] = [i, found];
    }
    return best;
  }

  /** The image at a place on the canvas. */
  at(px, py) {
    return this.nearest((i) => {
      const [qx, qy] = this.place(i);
      return (qx - px) ** 2 + (qy - py) ** 2;
    }, REACH ** 2);
  }

  /** From the chosen image to the nearest that lies more in a direction than beside it; the keys' way. */
  step(dx, dy) {
    const [ox, oy] = this.chosen === null ? this.middle : [this.x[this.chosen], this.y[this.chosen]];
    const found = this.nearest((i) => {
      const [x, y] = [this.x[i] - ox, this.y[i] - oy];
      if (this.chosen === null) return x ** 2 + y ** 2;
      const [along, across] = [x * dx + y * dy, Math.abs(x * dy) + Math.abs(y * dx)];
      return along > 0 && across <= along ? along + 2 * across : Infinity;
    });
    if (found !== null) this.chosen = found;
    const [px, py] = this.place(this.chosen);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (px < 0 || py < 0 || px > width || py > height) this.middle = [this.x[this.chosen], this.y[this.chosen]];
    this.choose(this.chosen, true);
  }

  zoomBy(factor) {
    if (this.chosen !== null && factor > 1) this.middle = [this.x[this.chosen], this.y[this.chosen]];
    this.zoom = Math.min(CLOSEST, Math.max(1, this.zoom * factor));
    if (this.zoom === 1) this.middle = [0.5, 0.5];
    this.choose(this.chosen, false);
  }

  listen() {
    let dragged = null;
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.canvas.addEventListener('pointerdown', (event) => {
      dragged = at(event);
    });
    addEventListener('pointerup', () => {
      dragged = null;
    });
    this.canvas.addEventListener('pointermove', (event) => {
      const place = at(event);
      if (dragged && this.zoom > 1) {
        this.drag(place[0] - dragged[0], place[1] - dragged[1]);
        dragged = place;
        return;
      }
      // What is shown stays until another image is pointed at, so that the way to its button is free.
      const found = this.at(...place);
      if (found !== null && found !== this.chosen) this.choose(found, false);
    });
    this.canvas.addEventListener('click', (event) => this.choose(this.at(...at(event)), true));
    this.canvas.addEventListener('keydown', (event) => {
      const act = this.key(event.key);
      if (!act) return;
      act();
      event.preventDefault();
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  drag(dx, dy) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.middle = [
      this.middle[0] - dx / (width - 2 * MARGIN) / this.zoom,
      this.middle[1] - dy / (height - 2 * MARGIN) / this.zoom,
    ];
    this.choose(null, false);
  }

  /** What a key does; nothing if it does nothing here. */
  key(name) {
    return {
      ArrowLeft: () => this.step(-1, 0),
      ArrowRight: () => this.step(1, 0),
      ArrowUp: () => this.step(0, -1),
      ArrowDown: () => this.step(0, 1),
      Enter: () => this.tip.querySelector('button')?.click(),
      Escape: () => this.choose(null, false),
      '+': () => this.zoomBy(1.6),
      '-': () => this.zoomBy(1 / 1.6),
    }[name];
  }
}

const colorName = (index) => (index ? `--series-${index}` : '--point');

/** Rows of color, words and count. */
function showLegend(rows) {
  by('map-legend').replaceChildren(
    ...rows.map(([index, text, count]) => {
      const dot = make('span', { class: 'dot', 'aria-hidden': 'true' });
      dot.style.background = `var(${colorName(index)})`;
      return make('li', {}, dot, word(text), ` ${number(count)}`);
    }),
  );
}

/** Little-endian 16-bit numbers in base 64, as parts of 1. */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const values = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => values.getUint16(2 * i, true) / 65535);
}
