// The package as an application gets it: packed, unpacked, compiled against and imported.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('..', import.meta.url))
const modules = join(here, 'node_modules')

describe('the package', { timeout: 120_000 }, () => {
  let app

  before(() => {
    app = mkdtempSync(join(tmpdir(), 'irohub-js-'))
    execFileSync('npm', ['pack', '--silent', '--pack-destination', app], { cwd: here })
    const [tarball] = readdirSync(app)
    execFileSync('tar', ['-xzf', tarball], { cwd: app })
    mkdirSync(join(app, 'node_modules'))
    cpSync(join(app, 'package'), join(app, 'node_modules/irohub'), { recursive: true })
    for (const name of ['@number0', '@types', 'undici-types']) symlinkSync(join(modules, name), join(app, 'node_modules', name))
    writeFileSync(join(app, 'package.json'), '{"type":"module"}')
    writeFileSync(join(app, 'app.mts'), readFileSync(join(here, 'test/usage.mts')))
  })
  after(() => rmSync(app, { recursive: true }))

  test('has what an application needs, and no more', () => {
    const files = readdirSync(join(app, 'package')).sort()
    assert.deepEqual(files, ['LICENSE', 'README.md', 'example.mjs', 'package.json', 'spoke.d.mts', 'spoke.mjs'])
  })

  test('can be imported', () => {
    const script = "import { Spoke } from 'irohub'; console.log(typeof Spoke.connect)"
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: app, encoding: 'utf8' })
    assert.equal(stdout, 'function\n')
  })

  for (const [name, options] of Object.entries({
    'of Node, without DOM': { lib: ['ES2022'], types: ['node'] },
    'with DOM, without Node': { lib: ['ES2022', 'DOM'], types: [] },
    'with both': { lib: ['ES2022', 'DOM'], types: ['node'] },
  })) {
    test(`compiles in a project ${name}`, () => {
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
})
