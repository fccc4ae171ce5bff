'use strict';
// An API of pets. All that is costly happens once, at init: modules are loaded, clients are constructed, routes are made.

const { randomUUID } = require('node:crypto');
const express = require('express');
const serverless = require('serverless-http');
const { DynamoDBClient } = require('@aws-sdk/client-dynamodb');
const { S3Client } = require('@aws-sdk/client-s3');
const { registerBeforeSnapshot } = require('thaw-snapstart'); // comes with the runtime
const sample = require('./event.json');

// As in real functions: made here, used by the handlers (these do not: the example is to work without a network).
const clients = { table: new DynamoDBClient({}), pictures: new S3Client({}) };

const pets = new Map();
for (const [kind, name] of [['cat', 'Tom'], ['dog', 'Rex'], ['fish', 'Bubbles']]) {
  const id = randomUUID();
  pets.set(id, { id, kind, name });
}

const app = express();
app.use(express.json());
app.get('/pets', (request, response) => {
  const { kind } = request.query;
  response.json([...pets.values()].filter((pet) => !kind || pet.kind === kind));
});
app.get('/pets/:id', (request, response) => {
  const pet = pets.get(request.params.id);
  if (pet) response.json(pet);
  else response.status(404).json({ message: 'no such pet' });
});
app.post('/pets', (request, response) => {
  const pet = { id: randomUUID(), ...request.body };
  pets.set(pet.id, pet);
  response.status(201).json(pet);
});
app.get('/about', (request, response) => {
  response.json({ clients: Object.keys(clients), node: process.version });
});

exports.handler = serverless(app);

// What has run before the snapshot is compiled in every clone: let the first request of each be an old acquaintance.
registerBeforeSnapshot(async () => {
  for (let round = 0; round < 50; round++) await exports.handler(sample, {});
});
