// A certified OpenID Connect provider, for a test that signs in there. Prints its issuer, then serves until
// its standard input ends. Keys, accounts and pages are the library's own for development.

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'patchwright',
    client_secret: 'a secret of the client',
    redirect_uris: ['http://localhost/login/oidc/corp/callback'],
  }],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'groups'], email: ['email'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['for tests alone'] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: 'Anna Example', preferred_username: id, groups: ['admins'] }),
  }),
});
server.on('request', provider.callback());
console.log(issuer);
process.stdin.on('end', () => process.exit()).resume();
