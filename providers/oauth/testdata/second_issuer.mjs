// An OpenID provider of other authors, for second_issuer_test.go. It prints its
// address. ROTATES, LIFE (seconds of an access token) and AUTH (how the client
// authenticates) come from the environment. When a replaced refresh token comes
// again, it ends the whole grant.
import Provider from 'oidc-provider';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

const life = () => Number(process.env.LIFE);
const long = () => 3600;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const server = createServer().listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'k', use: 'sig', alg: 'RS256' }] },
    cookies: { keys: ['of-this-test'] },
    clients: [{
      client_id: 'web', client_secret: 's3cret+/ canary', redirect_uris: ['http://127.0.0.1:9/cb'], response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'], token_endpoint_auth_method: process.env.AUTH,
    }],
    features: { devInteractions: { enabled: true }, clientCredentials: { enabled: true }, revocation: { enabled: true } },
    ttl: { AccessToken: life, ClientCredentials: life, RefreshToken: long, Session: long, Grant: long, Interaction: long, IdToken: long },
    issueRefreshToken: async () => true,
    rotateRefreshToken: process.env.ROTATES === 'true',
    pkce: { required: () => true },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
