// The data, and the few ways in which it is turned into elements. Texts of the dataset only ever become text.

const DATA = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';

const by = (id) => document.getElementById(id);

/** An element with attributes (`text` is its text, functions are listeners of events) and children, texts among them. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'text') element.textContent = value;
    else if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A text from the dataset, kept apart from the direction of what is around it. */
const word = (text) => make('bdi', { text });

const plain = (name) => String(name).replaceAll('_', ' ');
const number = (value) => value.toLocaleString('en-GB', { maximumSignificantDigits: Number.isInteger(value) ? 21 : 4 });

/** Nothing is rounded to certainty. */
function percent(value) {
  const parts = 100 * value;
  if (parts > 99 && parts < 100) return `${Math.min(parts, 99.99).toFixed(2)}%`;
  return `${parts.toFixed(parts > 0 && parts < 1 ? 1 : 0)}%`;
}

const counted = (count, plural, single) => `${number(count)} ${count === 1 ? single : plural}`;
const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

/** A text for screen readers only, once. */
function say(text) {
  by('said').textContent = text;
}

/** A list of options, each [value, words]. */
function fill(select, options) {
  select.replaceChildren(...options.map(([value, words]) => make('option', { value, text: words })));
}

/**
 * A table in a frame that scrolls. Columns are [heading, cell of a row, 'number', 'text' (which is wide) or nothing]; a cell is a text, a number,
 * an element, or nothing.
 */
function table(title, columns, rows) {
  const cell = (row, [, value, kind]) => {
    const found = value(row);
    const empty = found === null || found === undefined || found === '';
    const shown = typeof found === 'number' ? number(found) : found;
    return make('td', { class: kind }, empty ? '–' : typeof shown === 'string' ? word(shown) : shown);
  };
  return make(
    'div',
    { class: 'scroller', tabindex: 0, role: 'region', 'aria-label': title },
    make(
      'table',
      {},
      make('caption', { text: title }),
      make('thead', {}, make('tr', {}, ...columns.map(([text, , kind]) => make('th', { scope: 'col', class: kind, text })))),
      make('tbody', {}, ...rows.map((row) => make('tr', {}, ...columns.map((column) => cell(row, column))))),
    ),
  );
}

/** A picture with the lines on it, or a frame that says that there is none. Its alternative text says what it shows. */
function picture(place, says, outlines = []) {
  const encoded = place === null || place === undefined ? 0 : DATA.pictures[place];
  if (!encoded) return make('span', { class: 'picture none' }, make('span', {}, `no picture: `, word(says)));
  const ratio = DATA.shapes[place];
  const frame = make('span', { class: 'picture' }, make('img', { alt: says, src: `data:image/webp;base64,${encoded}`, decoding: 'async' }));
  frame.style.aspectRatio = `1000 / ${ratio}`;
  if (outlines.length) frame.append(lines(outlines, ratio));
  return frame;
}

/** Lines in thousandths of a picture's width: each a dark one below, so that it is seen on anything. */
function lines(outlines, ratio) {
  const drawing = document.createElementNS(SVG, 'svg');
  drawing.setAttribute('viewBox', `0 0 1000 ${ratio}`);
  drawing.setAttribute('preserveAspectRatio', 'none');
  drawing.setAttribute('aria-hidden', 'true');
  for (const below of [true, false]) {
    for (const [what, parts] of outlines) {
      for (const [how, points] of parts) drawing.append(...line(how, points, below ? 'halo' : what));
    }
  }
  return drawing;
}

const CLOSED = 0;
const POINTS = 2;

function line(how, points, style) {
  if (how === POINTS) {
    return Array.from({ length: points.length / 2 }, (_, i) => {
      const circle = document.createElementNS(SVG, 'circle');
      circle.setAttribute('class', `line ${style}`);
      circle.setAttribute('cx', points[2 * i]);
      circle.setAttribute('cy', points[2 * i + 1]);
      circle.setAttribute('r', 8);
      return circle;
    });
  }
  const shape = document.createElementNS(SVG, how === CLOSED ? 'polygon' : 'polyline');
  shape.setAttribute('class', `line ${style}`);
  shape.setAttribute('points', points.join(' '));
  return [shape];
}

/** What the browser keeps for this page; a file opened from disk may be kept nothing for. */
const store = {
  key: `curate report ${DATA.dataset} ${DATA.commit} ${DATA.commit_time} `,
  works: true,
  get(name) {
    try {
      return localStorage.getItem(this.key + name);
    } catch {
      this.works = false;
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(this.key + name, value);
    } catch {
      this.works = false;
    }
  },
};
