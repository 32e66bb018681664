// Findings as cards. Each has its heading from the start; the rest is made when it comes near the window and goes with it. Cards
// lie in parts that the browser leaves out of its layout while they are far away, so that five thousand scroll like fifty.

const PART = 20;
const articles = new Map();
let shownCards = [];

const nearCards = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      if (isIntersecting) fillCard(target);
      else emptyCard(target, boundingClientRect.height);
    }
  },
  { rootMargin: '1200px 0px' },
);

// To watch every card would cost more than to draw those in sight.
const nearParts = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      for (const article of target.children) {
        if (isIntersecting) nearCards.observe(article);
        else {
          nearCards.unobserve(article);
          emptyCard(article, 0);
        }
      }
    }
  },
  { rootMargin: '2000px 0px' },
);

const nameOf = (card) => DATA.names[card.image];
const titleOf = (card) => `${plain(card.kind)} on ${nameOf(card)}`;

function showCards() {
  shownCards = chosenCards();
  const list = shownCards.map((place, position) => {
    const article = articles.get(place) ?? makeArticle(place);
    article.setAttribute('aria-posinset', position + 1);
    article.setAttribute('aria-setsize', shownCards.length);
    return article;
  });
  nearParts.disconnect();
  nearCards.disconnect();
  const parts = [];
  for (let first = 0; first < list.length; first += PART) {
    const part = make('div', { class: 'part', role: 'presentation' }, ...list.slice(first, first + PART));
    nearParts.observe(part);
    parts.push(part);
  }
  by('cards').replaceChildren(...parts);
  const all = DATA.cards.length;
  by('shown').textContent = shownCards.length === all
    ? `All ${counted(all, 'findings', 'finding')} are shown`
    : `${number(shownCards.length)} of ${counted(all, 'findings', 'finding')} are shown`;
}

function makeArticle(place) {
  const card = DATA.cards[place];
  const id = `card-${place}`;
  const article = make(
    'article',
    { class: 'card', tabindex: 0, 'aria-labelledby': id, 'data-place': place },
    make(
      'h3',
      { id },
      make('span', { class: 'score', text: percent(card.score) }),
      make('span', { text: plain(card.kind) }),
      make('span', { class: 'place' }, word(nameOf(card))),
    ),
  );
  markDecision(article, card);
  articles.set(place, article);
  return article;
}

const isFilled = (article) => article.lastChild.className === 'body';

/** Take a card's contents away; it stays as high as it was. */
function emptyCard(article, height) {
  if (!isFilled(article) || article.contains(document.activeElement)) return;
  if (height) article.style.minHeight = `${height}px`;
  article.lastChild.remove();
}

function fillCard(article) {
  if (isFilled(article)) return;
  article.style.minHeight = '';
  const card = DATA.cards[article.dataset.place];
  article.append(make('div', { class: 'body' }, mainPicture(card), words(card), related(card)));
  markDecision(article, card);
}

function mainPicture(card) {
  const says = [titleOf(card), ...labelRows(card).map(([name, value]) => `${name} ${value}`)].join(', ');
  return make('div', { class: 'main' }, make('figure', {}, picture(card.picture, says, card.outlines)));
}

function words(card) {
  const facts = [
    ['check', plain(card.check)],
    ['status', card.status],
    card.box && ['box', card.box.map((value) => (value === null ? '–' : number(value))).join(' ')],
    ['split', DATA.split_of[card.image] ?? '–'],
    ['found in', `commit ${number(card.commit)}`],
    card.verdict && ['closed', card.verdict],
    ...card.details.map(([name, value]) => [plain(name), typeof value === 'number' ? number(value) : (value ?? '–')]),
    ['id', card.id],
  ].filter(Boolean);
  return make(
    'div',
    {},
    make('p', {}, word(card.why)),
    labels(card),
    make(
      'details',
      {},
      make('summary', { text: 'Evidence' }),
      make('dl', { class: 'pair' }, ...facts.flatMap(([name, value]) => [make('dt', { text: name }), make('dd', {}, word(value))])),
    ),
    make(
      'div',
      { class: 'verdict', role: 'group', 'aria-label': 'Is it a problem?' },
      verdictButton(card, 'accept', 'yes', 'Yes, a problem'),
      verdictButton(card, 'reject', 'no', 'No, fine as it is'),
    ),
  );
}

function labels(card) {
  return make('dl', { class: 'labels' }, ...labelRows(card).flatMap(([name, value]) => [make('dt', { text: name }), make('dd', {}, word(value))]));
}

/** What is there and what should be, each with its name, as far as it is known. */
function labelRows(card) {
  const [given, suggested] = card.kind === 'leak' ? ['is in', 'belongs to'] : ['labelled', 'suggested'];
  const rows = [[given, card.given], [suggested, card.suggested], ['now', card.now === null ? 'taken away' : card.now]];
  return rows.filter(([, value]) => value !== null && value !== undefined);
}

function verdictButton(card, decision, style, text) {
  const click = () => decide(card, decisions.get(card.id) === decision ? null : decision);
  return make('button', { type: 'button', class: style, 'data-decision': decision, click, text });
}

/** What the finding compares with, side by side. */
function related(card) {
  const parts = card.related.map((other) => {
    const name = DATA.names[other.image];
    const label = other.label === null ? null : make('strong', {}, word(other.label));
    const score = other.score === null ? '' : (other.label === null ? `, ${percent(other.score)}` : `, alike ${number(other.score)}`);
    const caption = make('figcaption', {}, label, label ? ', ' : '', word(name), score);
    return make('li', {}, make('figure', {}, picture(other.picture, `compared with ${name}`, other.outlines), caption));
  });
  return make('ul', { class: 'related', 'aria-label': 'Compared with', hidden: parts.length === 0 }, ...parts);
}

function markDecision(article, card) {
  const decision = decisions.get(card.id);
  if (decision) article.dataset.decision = decision;
  else delete article.dataset.decision;
  for (const button of article.querySelectorAll('.verdict button')) {
    button.setAttribute('aria-pressed', String(button.dataset.decision === decision));
  }
}

function startCards() {
  by('shown').tabIndex = -1;
  decided.addEventListener('change', ({ detail }) => {
    for (const [place, article] of articles) if (!detail || DATA.cards[place] === detail) markDecision(article, DATA.cards[place]);
  });
  by('cards').addEventListener('focusin', (event) => fillCard(event.target.closest('.card')));
  by('lines').addEventListener('change', (event) => document.body.classList.toggle('no-lines', !event.target.checked));
  showCards();
}
