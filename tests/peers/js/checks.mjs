// Counts checks; each prints one line, and the last line is the count.

let passed = 0
let failed = 0

export function that(name, holds, detail = '') {
  if (holds) passed += 1
  else failed += 1
  console.log(`${holds ? 'ok     ' : 'FAILED '} ${name} ${holds ? '' : detail}`.trimEnd())
}

export function equal(name, got, wanted) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)]
  that(name, a === b, `got ${a}, wanted ${b}`)
}

// Name and text of the error that a call ends in.
export async function errorOf(promise) {
  try {
    await promise
  } catch (error) {
    return [error.name, error.message]
  }
  return ['', '']
}

export function finish() {
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}
