#!/usr/bin/env node
'use strict'
// The query engine of the old sbot: run {queries, values} -> for each query what comes out, or {error}
const { tell, serve } = require('./lib/console')
const pull = require('pull-stream')
const mfr = require('map-filter-reduce')

const answer = (query, values) => new Promise((resolve) => {
  try {
    pull(pull.values(values), mfr(query), pull.collect((err, found) => resolve(err ? { error: String(err) } : { found })))
  } catch (err) {
    resolve({ error: String(err) })
  }
})

serve({
  run: ({ queries, values }) => Promise.all(queries.map((query) => answer(query, JSON.parse(JSON.stringify(values)))))
}, () => process.exit(0))
tell({ notice: 'ready' })
