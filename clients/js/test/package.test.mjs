// The package as an application gets it: packed, installed, compiled against, and used as the README says.
import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { version } from '../spoke.mjs'
import { cleanup, Lines, root, startHub } from './hub.mjs'

const here = fileURLToPath(new URL('..', import.meta.url))
const modules = join(here, 'node_modules')
const readme = readFileSync(join(here, 'README.md'), 'utf8')
const pieces = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, text]) => text)
const nameOf = (text) => /^\/\/ (\w+\.mjs)\n/.exec(text)?.[1]

describe('the package', { timeout: 300_000 }, () => {
  let app
  let missing // why it could not be installed

  before(() => {
    app = mkdtempSync(join(tmpdir(), 'irohub-js-'))
    writeFileSync(join(app, 'package.json'), '{"type":"module"}')
    const npm = (...args) => spawnSync('npm', args, { cwd: app, encoding: 'utf8' })
    npm('config', 'set', 'install-links=true', '--location=project')
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund']
    let { status, stderr } = npm(...install, here)
    // What npm is asked for next leaves it as it is.
    if (status === 0) ({ status, stderr } = npm(...install))
    if (status === 0) {
      for (const name of ['@types', 'undici-types']) symlinkSync(join(modules, name), join(app, 'node_modules', name))
    } else if (process.env.CI) {
      throw new Error(stderr)
    } else {
      missing = `npm needs a registry here: ${stderr}`
    }
    writeFileSync(join(app, 'app.mts'), readFileSync(join(here, 'test/usage.mts')))
    for (const text of pieces) if (nameOf(text)) writeFileSync(join(app, nameOf(text)), text)
  })
  after(() => rmSync(app, { recursive: true }))

  const installed = (name, run) => test(name, (t) => (missing ? t.skip(missing) : run(t)))

  test('has what an application needs, and no more', () => {
    const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: here, stdio: 'pipe' }))
    const modules = ['spoke', ...['frames', 'iroh', 'link', 'options', 'outbox', 'session', 'spoke', 'subscription', 'time', 'topics'].map((name) => `lib/${name}`)]
    const wanted = ['LICENSE', 'README.md', 'example.mjs', 'package.json', ...modules.flatMap((name) => [`${name}.mjs`, `${name}.d.mts`])]
    assert.deepEqual(files.map(({ path }) => path).sort(), wanted.sort())
  })

  test('has one module that needs iroh and Node, so that others can run in a browser', () => {
    const needs = readdirSync(join(here, 'lib')).filter((name) => name.endsWith('.mjs')).filter((name) =>
      /^import .* from '(?!\.)|\b(process|Buffer)\./m.test(readFileSync(join(here, 'lib', name), 'utf8')))
    assert.deepEqual(needs, ['iroh.mjs'])
  })

  test('has one version, and pins no registry', () => {
    const read = (name) => JSON.parse(readFileSync(join(here, name), 'utf8'))
    assert.deepEqual([version, version], [read('package.json').version, read('package-lock.json').version])
    assert.doesNotMatch(readFileSync(join(here, 'package-lock.json'), 'utf8'), /:\/\//)
  })

  installed('can be imported, and converses', async (t) => {
    const script = "import { Spoke, version } from 'irohub'; console.log(typeof Spoke.connect, version)"
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: app, encoding: 'utf8' })
    assert.equal(stdout, `function ${version}\n`)

    const hub = await startHub(t, '-forward')
    const listener = spawn(process.execPath, ['listen.mjs', hub.ticket], { cwd: app, stdio: ['ignore', 'pipe', 'inherit'] })
    cleanup(t, () => listener.kill('SIGKILL'))
    const lines = new Lines(listener.stdout)
    assert.equal(await lines.next(), 'listening')
    const speaker = spawn(process.execPath, ['say.mjs', hub.ticket], { cwd: app, stdio: 'inherit' })
    assert.deepEqual(await once(speaker, 'exit'), [0, null])
    const line = await lines.next()
    assert.equal(line, "conv-123 { text: 'hello' }")
    assert.ok(readme.includes(line))
  })

  installed('does what the pieces of code in the README say', async (t) => {
    const hub = await startHub(t, '-forward')
    const rest = pieces.filter((text) => !nameOf(text))
    assert.ok(rest.length >= 6)
    const publishing = setInterval(() => {
      hub.publish({ type: 'alarm' })
      hub.publish({ type: 'file', id: 'a' })
    }, 50)
    cleanup(t, () => clearInterval(publishing))
    for (const [n, text] of rest.entries()) {
      const isWhole = text.includes('import { Spoke')
      const begin = isWhole ? '' : "import { Spoke } from 'irohub'\nconst spoke = await Spoke.connect(peer)\n"
      const end = isWhole ? '' : 'await spoke.close()\n'
      writeFileSync(join(app, `piece${n}.mjs`), `const peer = process.argv[2]\n${begin}${text}${end}`)
      const child = spawn(process.execPath, [`piece${n}.mjs`, hub.peer], { cwd: app, stdio: ['ignore', 'ignore', 'pipe'] })
      const words = []
      child.stderr.on('data', (data) => words.push(data))
      assert.deepEqual(await once(child, 'close'), [0, null], `${text}\n${Buffer.concat(words)}`)
    }
  })

  for (const [name, options] of Object.entries({
    'of Node, without DOM': { lib: ['ES2022'], types: ['node'] },
    'with DOM, without Node': { lib: ['ES2022', 'DOM'], types: [] },
    'with both': { lib: ['ES2022', 'DOM'], types: ['node'] },
  })) {
    installed(`compiles in a project ${name}`, () => {
      const compilerOptions = {
        ...options, strict: true, noEmit: true, module: 'NodeNext', target: 'ES2022', skipLibCheck: false,
        exactOptionalPropertyTypes: true, preserveSymlinks: true, typeRoots: [join(app, 'node_modules/@types')],
      }
      writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['app.mts'] }))
      const tsc = join(modules, 'typescript/bin/tsc')
      const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', '.'], { cwd: app, encoding: 'utf8' })
      assert.equal(status, 0, stdout)
    })
  }

  test('docs/clients.md names what there is', () => {
    const table = readFileSync(join(root, 'docs/clients.md'), 'utf8')
    const column = table.split('\n').map((line) => line.split('|')).filter((cells) => cells.length === 6).map((cells) => cells[4])
    const declared = ['spoke', 'lib/spoke', 'lib/options'].map((name) => readFileSync(join(here, `${name}.d.mts`), 'utf8')).join('')
    const options = /export type SpokeOptions = \{(.*?)\n\};/s.exec(declared)[1].matchAll(/^    (\w+)\?:/gm)
    const named = column.flatMap((cell) => [...cell.matchAll(/`options\.(\w+)/g)].map(([, name]) => name))
    assert.deepEqual(new Set(named), new Set([...options].map(([, name]) => name)))
    for (const [, name] of column.join().matchAll(/`(?:spoke|Spoke)\.(\w+)/g)) assert.match(declared, new RegExp(`\\b${name}\\b`))
  })
})
