"""One HTML file that shows what was found in a dataset, to anybody, without a server or a network.

`build.write_report` collects (`summary`, `cards`, `distributions`, `places`, `rounds`), has pictures made as far as a limit of
bytes allows (`pictures`), draws charts (`charts`) and puts all into one page (`page`) with our own `page.html`, `page.css` and
`js/*.js`. `decisions` reads back what a reader has decided.
"""
