// j and k go from card to card, y and n decide and go on, u takes a decision back. They can be switched off, for they are in the
// way of those who dictate.

let current = null;
let last = null;

function startKeys() {
  by('keys').checked = store.get('keys') !== 'off';
  by('keys').addEventListener('change', (event) => store.set('keys', event.target.checked ? 'on' : 'off'));
  by('cards').addEventListener('focusin', (event) => {
    current = event.target.closest('.card');
  });
  addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, select, textarea, dialog, canvas');
    if (!by('keys').checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { j: () => step(1), k: () => step(-1), y: () => judge('accept'), n: () => judge('reject'), u: () => judge(null) }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function step(by_) {
  if (!shownCards.length) return;
  const place = current?.isConnected ? shownCards.indexOf(Number(current.dataset.place)) : -1;
  if (place < 0) go(firstInView());
  else go(articles.get(shownCards[Math.min(Math.max(place + by_, 0), shownCards.length - 1)]));
}

/** The first card in the window; the first of all if there is none. */
function firstInView() {
  const below = (element) => element.getBoundingClientRect().bottom > 60;
  const found = [...([...by('cards').children].find(below)?.children ?? [])].find(below);
  return found && found.getBoundingClientRect().top < innerHeight ? found : articles.get(shownCards[0]);
}

function go(article) {
  // A window that is not in front tells of no focus.
  current = article;
  article.focus({ preventScroll: true });
  fillCard(article);
  article.scrollIntoView({ block: 'start' });
}

function judge(decision) {
  if (!current?.isConnected) {
    step(1);
    return;
  }
  if (decision) {
    last = current;
    decide(DATA.cards[current.dataset.place], decision);
    step(1);
    return;
  }
  // After a decision the next card is the current one: what is taken back is then the one just decided on.
  const article = decisions.has(DATA.cards[current.dataset.place].id) ? current : last;
  if (!article?.isConnected) return;
  decide(DATA.cards[article.dataset.place], null);
  last = null;
  go(article);
}
