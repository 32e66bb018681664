// Which findings are shown, and in which order.

const UNDECIDED = 'undecided';
const FILTERS = ['kind', 'check', 'status', 'class', 'pair', 'split', 'slice', 'decision', 'score', 'text'];

const filterValue = (name) => by(`by-${name}`).value;

function startFilters(show) {
  const kinds = new Map();
  const checks = new Map();
  const statuses = new Map();
  const classes = new Map();
  const pairs = new Map();
  const splits = new Map();
  const slices = new Map();
  const count = (map, key) => map.set(key, (map.get(key) ?? 0) + 1);
  for (const card of DATA.cards) {
    count(kinds, card.kind);
    count(checks, card.check);
    count(statuses, card.status);
    for (const name of new Set(classesOf(card))) count(classes, name);
    if (pairOf(card)) count(pairs, pairOf(card));
    count(splits, DATA.split_of[card.image] ?? '');
    if (card.slice) count(slices, card.slice);
  }
  const options = (map, words) => [...map].sort((a, b) => b[1] - a[1]).map(([key, n]) => [`=${key}`, `${key === '' ? 'none' : words(key)} (${number(n)})`]);
  const listed = (map) => options(map, plain);
  const named = (map) => options(map, String);
  const open = (statuses.get('open') ?? 0) + (statuses.get('queued') ?? 0);
  fill(by('by-kind'), [['', 'any'], ...listed(kinds)]);
  fill(by('by-check'), [['', 'any'], ...listed(checks)]);
  fill(by('by-status'), [['', 'any'], [UNDECIDED, `to decide (${number(open)})`], ...listed(statuses)]);
  fill(by('by-class'), [['', 'any'], ...named(classes)]);
  fill(by('by-pair'), [['', 'any'], ...options(pairs, (pair) => JSON.parse(pair).join(' → '))]);
  fill(by('by-split'), [['', 'any'], ...named(splits)]);
  fill(by('by-slice'), [['', 'any'], ...named(slices)]);
  for (const [id, map] of [['split', splits], ['slice', slices], ['class', classes], ['pair', pairs], ['check', checks]]) {
    by(`by-${id}`).parentElement.hidden = map.size < (['slice', 'class', 'pair'].includes(id) ? 1 : 2);
  }
  if (open > 0 && open < DATA.cards.length) by('by-status').value = UNDECIDED;
  by('filters').addEventListener('input', show);
  by('filters').addEventListener('submit', (event) => event.preventDefault());
  // The fields have their first values back only after the event.
  by('filters').addEventListener('reset', () => setTimeout(show));
}

/** Choose findings and go to them: names of filters and their values, the others empty. */
function filterTo(values, show) {
  for (const name of FILTERS) by(`by-${name}`).value = values[name] ?? (name === 'score' ? '0' : '');
  show();
  by('findings').scrollIntoView();
  by('shown').focus({ preventScroll: true });
}

/** Numbers of the cards that the filters leave, sorted. */
function chosenCards() {
  const asked = Object.fromEntries(FILTERS.map((name) => [name, filterValue(name)]));
  const exact = (name, ...values) => !asked[name] || values.includes(asked[name].slice(1));
  const lowest = Number(asked.score) || 0;
  const text = asked.text.trim().toLocaleLowerCase();
  const chosen = [];
  DATA.cards.forEach((card, place) => {
    const status = asked.status === UNDECIDED ? ['open', 'queued'].includes(card.status) : exact('status', card.status);
    const decision = decisions.get(card.id) ?? 'none';
    if (
      status
      && exact('kind', card.kind)
      && exact('check', card.check)
      && exact('class', ...classesOf(card))
      && exact('pair', pairOf(card))
      && exact('split', DATA.split_of[card.image] ?? '')
      && exact('slice', card.slice)
      && (!asked.decision || asked.decision === decision)
      && card.score >= lowest
      && (!text || textOf(card).includes(text))
    ) chosen.push(place);
  });
  return sorted(chosen, by('sort').value);
}

/** The classes that a finding speaks of; a leak is given a split and suggested another. */
const classesOf = (card) => (card.kind === 'leak' ? [] : [card.given, card.suggested].filter((name) => name !== null));

/** The classes that a finding says are confused, as one text; nothing where it says nothing of the sort, or is settled. */
const pairOf = (card) => (card.kind === 'mislabeled' && card.given !== null && card.suggested !== null && !['rejected', 'fixed'].includes(card.status)
  ? JSON.stringify([card.given, card.suggested])
  : null);

const textOf = (card) => [DATA.names[card.image], card.given, card.suggested, card.why, card.kind, card.id].join('\n').toLocaleLowerCase();

/** The cards come with the most probable first, and stay so among those that are equal. */
function sorted(places, order) {
  const key = {
    kind: (card) => card.kind,
    image: (card) => DATA.names[card.image],
    given: (card) => card.given ?? card.suggested ?? '\uffff',
  }[order];
  if (order === 'commit') return places.sort((a, b) => DATA.cards[b].commit - DATA.cards[a].commit || a - b);
  if (!key) return places;
  const keys = new Map(places.map((place) => [place, key(DATA.cards[place])]));
  return places.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    return x < y ? -1 : x > y ? 1 : a - b;
  });
}
