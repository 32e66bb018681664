function startTheme() {
  const chosen = by('theme');
  const apply = () => {
    if (chosen.value) document.documentElement.dataset.theme = chosen.value;
    else delete document.documentElement.dataset.theme;
  };
  chosen.value = ['light', 'dark'].includes(store.get('theme')) ? store.get('theme') : '';
  chosen.addEventListener('change', () => {
    apply();
    store.set('theme', chosen.value);
  });
  apply();
}

startTheme();
by('choose').open = innerWidth > 640;
startDeciding();
startFilters(showCards);
startCards();
startKeys();
showMap(showCards);
showSections(showCards);
