// What every board of the app does: clicks, uploads, search and the before/after slider. No libraries, no network.
(() => {
  const store = { get: (k) => { try { return localStorage.getItem(k) } catch { return null } },
                  set: (k, v) => { try { localStorage.setItem(k, v) } catch { /* private windows */ } } }

  function theme(choice) {
    const dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
    document.body.classList.toggle('dark', dark)
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light'
    document.querySelectorAll('[data-theme-choice]').forEach((b) =>
      b.setAttribute('aria-pressed', String(b.dataset.themeChoice === choice)))
  }
  window.facechainTheme = () => theme(store.get('facechain-theme') || 'system')
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', window.facechainTheme)

  function fields(from) {
    const form = from.closest('[data-form]')
    const values = {}
    if (form) for (const field of form.querySelectorAll('[data-field]')) {
      values[field.dataset.field] = field.type === 'checkbox' ? field.checked : field.value
    }
    return values
  }

  function tell(box, text, kind) {
    const line = box.querySelector('[data-said]')
    if (!line) return
    line.textContent = text
    line.dataset.kind = kind || ''
  }

  // Of a folder only the pictures are taken; a file chosen by itself is sent and, if it must be, refused by name.
  const picture = (file) => !file.name.startsWith('.') &&
    (file.type.startsWith('image/') || /\.(heic|heif|avif|webp|tiff?|bmp|dng|cr[23]|nef|nrw|arw|raf|orf|rw2|pef|srw)$/i.test(file.name))

  async function upload(box, files, trigger, folder) {
    if (!files.length || box.dataset.busy) return
    const words = JSON.parse(box.dataset.words)
    const all = files.length
    if (folder) files = files.filter(picture)
    const others = files.length < all ? words.others.replace('{count}', all - files.length) : ''
    if (!files.length) return tell(box, others, 'bad')
    box.dataset.busy = '1'
    const batch = box.dataset.batch || [...crypto.getRandomValues(new Uint8Array(8))]
      .map((b) => b.toString(16).padStart(2, '0')).join('')
    const bar = box.querySelector('progress')
    if (bar) { bar.hidden = false; bar.max = files.length; bar.value = 0 }
    const refused = []
    let done = 0
    for (const file of files) {
      tell(box, words.sending.replace('{done}', done + 1).replace('{total}', files.length))
      try {
        const limit = Number(box.dataset.limit)
        if (file.size > limit) {
          refused.push({ name: file.name, what: words.large.replace('{name}', file.name) })
        } else {
          const answer = await fetch(`/uploads/${batch}?name=${encodeURIComponent(file.name)}`, {
            method: 'POST', body: file, headers: { 'X-FaceChain': '1', 'Content-Type': 'application/octet-stream' } })
          const said = await answer.json()
          if (!answer.ok) refused.push({ name: file.name, what: said.what + ' ' + said.next_step })
        }
      } catch { refused.push({ name: file.name, what: words.lost.replace('{name}', file.name) }) }
      done += 1
      if (bar) bar.value = done
    }
    delete box.dataset.busy
    if (bar) bar.hidden = true
    tell(box, [...refused.map((r) => r.what), ...(others ? [others] : [])].join('\n'), refused.length ? 'bad' : '')
    trigger('click', { do: 'uploaded', id: batch, fields: { refused, sent: files.length - refused.length } })
  }

  async function dropped(transfer) {
    const files = []
    let folder = false
    async function walk(entry) {
      if (entry.isFile) files.push(await new Promise((ok, no) => entry.file(ok, no)))
      else if (entry.isDirectory) {
        folder = true
        const reader = entry.createReader()
        for (;;) {
          const some = await new Promise((ok, no) => reader.readEntries(ok, no))
          if (!some.length) break
          for (const one of some) await walk(one)
        }
      }
    }
    const entries = [...transfer.items].map((i) => i.webkitGetAsEntry && i.webkitGetAsEntry()).filter(Boolean)
    if (!entries.length) return { files: [...transfer.files], folder }
    for (const entry of entries) await walk(entry)
    return { files, folder }
  }

  // An archive of a person goes up whole; the fingerprint of an unknown signer comes back to be compared.
  function importPerson(form, trigger) {
    const words = JSON.parse(form.dataset.words), trust = form.querySelector('[data-trust]')
    const sent = new FormData(form), file = sent.get('archive')
    if (sent.get('trust_signer')) sent.set('trust_signer', trust.dataset.signer || '')
    const request = new XMLHttpRequest(), bar = form.querySelector('progress'), stop = form.querySelector('[data-stop]')
    const submit = form.querySelector('[type=submit]')
    const busy = (is) => { bar.hidden = stop.hidden = !is; submit.disabled = is }
    stop.onclick = () => request.abort()
    request.upload.onprogress = (event) => { bar.max = event.total; bar.value = event.loaded }
    request.onabort = () => { busy(false); tell(form, '') }
    request.onerror = () => { busy(false); tell(form, words.lost.replace('{name}', file.name), 'bad') }
    request.onload = () => {
      busy(false)
      let said = {}
      try { said = JSON.parse(request.responseText) } catch { /* not from us */ }
      if (said.name) {
        form.reset()
        trust.hidden = true
        tell(form, '')
        trigger('click', { do: 'imported', id: said.name, fields: {} })
      } else if (said.signer) {
        trust.dataset.signer = said.signer
        trust.hidden = false
        tell(form, words.unknown.replace('{fingerprint}', said.signer), 'bad')
      } else tell(form, said.what ? `${said.what} ${said.next_step}` : words.lost.replace('{name}', file.name), 'bad')
    }
    request.open('POST', '/people/import')
    request.setRequestHeader('X-FaceChain', '1')
    busy(true)
    tell(form, '')
    request.send(sent)
  }

  // Where there is no room for all tabs, the others are behind the menu at their end.
  function open(name) {
    for (const where of ['[role="tab"]', '.overflow-dropdown button']) {
      const tab = [...document.querySelectorAll(`#tabs ${where}`)].find((b) => b.textContent.trim() === name)
      if (tab) return tab.click()
    }
  }

  function search(board) {
    const box = board.querySelector('[data-search]')
    if (!box) return
    const wanted = box.value.trim().toLowerCase().split(/\s+/).filter(Boolean)
    const group = board.querySelector('[data-group][aria-pressed="true"]')
    let shown = 0
    for (const card of board.querySelectorAll('[data-words-of]')) {
      const words = card.dataset.wordsOf.toLowerCase()
      const fits = wanted.every((w) => words.includes(w)) &&
        (!group || !group.dataset.group || card.dataset.groupOf === group.dataset.group)
      card.hidden = !fits
      shown += fits
    }
    const none = board.querySelector('[data-none]')
    if (none) none.hidden = shown > 0
  }

  let acted = false // somebody did something on this page; until then nothing moves by itself

  window.facechainBoard = (element, send) => {
    let sought = '', group = '', looked = ''
    const trigger = (...what) => { acted = true; send(...what) }
    element.addEventListener('click', (event) => {
      const theme_ = event.target.closest('[data-theme-choice]')
      if (theme_) { store.set('facechain-theme', theme_.dataset.themeChoice); theme(theme_.dataset.themeChoice); return }
      const tab = event.target.closest('[data-tab]')
      if (tab) open(tab.dataset.tab)
      const chip = event.target.closest('[data-group]')
      if (chip) {
        group = chip.dataset.group
        element.querySelectorAll('[data-group]').forEach((c) => c.setAttribute('aria-pressed', String(c === chip)))
        search(element)
        return
      }
      const button = event.target.closest('[data-do]')
      if (!button || button.disabled) return
      if (button.tagName === 'A') event.preventDefault()
      if (button.dataset.confirm && !confirm(button.dataset.confirm)) return
      trigger('click', { do: button.dataset.do, id: button.dataset.id || '', fields: fields(button) })
    })
    element.addEventListener('submit', (event) => {
      if (!event.target.matches('[data-import]')) return
      event.preventDefault()
      importPerson(event.target, trigger)
    })
    element.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && event.target.matches('input[data-enter]')) {
        const button = event.target.closest('[data-form]').querySelector('[data-do]')
        if (button) button.click()
      }
    })
    element.addEventListener('input', (event) => {
      if (event.target.matches('[data-search]')) { sought = event.target.value; search(element) }
      if (event.target.matches('[data-cut]')) event.target.closest('.compare').style.setProperty('--cut', event.target.value + '%')
    })
    element.addEventListener('change', (event) => {
      if (event.target.matches('[data-drop] input[type=file]')) {
        upload(event.target.closest('[data-drop]'), [...event.target.files], trigger, 'folder' in event.target.dataset)
        event.target.value = ''
        return
      }
      const changed = event.target.closest('[data-change]')
      if (changed) trigger('click', { do: changed.dataset.change, id: changed.dataset.id || '',
        fields: { value: changed.type === 'checkbox' ? changed.checked : changed.value } })
    })
    for (const kind of ['dragenter', 'dragover']) element.addEventListener(kind, (event) => {
      const box = event.target.closest('[data-drop]')
      if (box) { event.preventDefault(); box.classList.add('over') }
    })
    for (const kind of ['dragleave', 'drop']) element.addEventListener(kind, (event) => {
      const box = event.target.closest('[data-drop]')
      if (box) { event.preventDefault(); box.classList.remove('over') }
    })
    element.addEventListener('drop', async (event) => {
      const box = event.target.closest('[data-drop]')
      if (!box) return
      const { files, folder } = await dropped(event.dataTransfer)
      upload(box, files, trigger, folder)
    })
    // A board drawn anew keeps what was typed into its search.
    new MutationObserver(() => {
      const box = element.querySelector('[data-search]')
      if (box && sought && box.value !== sought) { box.value = sought }
      if (group) element.querySelectorAll('[data-group]').forEach((c) =>
        c.setAttribute('aria-pressed', String(c.dataset.group === group)))
      if (sought || group) search(element)
      const news = element.querySelector('[data-look]')
      if (news && acted && news.dataset.look !== looked && news.checkVisibility()) {
        news.scrollIntoView({ behavior: 'smooth', block: 'start' })
      }
      looked = news ? news.dataset.look : ''
    }).observe(element, { childList: true, subtree: true })
    window.facechainTheme()
  }
})()
