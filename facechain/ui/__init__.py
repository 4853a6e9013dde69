"""The browser app: every handler calls one verb of the studio or puts a job in the queue.

app        the pages, one a language, mounted on a server
phrases    every word shown, in English and Chinese
desk       what a handler works with: whose studio, whose jobs
sessions   who is asking, and what nobody may ask
pictures   pictures on their way out
watch      what changes by itself: jobs, seen by every page of their owner
html       the small pieces pages are made of; portraits: those about a portrait
looks      drawn previews of styles
tabs/      one file a tab
"""
