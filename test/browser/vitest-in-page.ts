/** Replacement for `vitest` in a page: its runner and assertions, without the parts that need a Vite server. */
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  ChaiStyleAssertions,
  chai,
  customMatchers,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';

export { afterAll, afterEach, beforeAll, beforeEach, describe, it } from '@vitest/runner';

for (const plugin of [JestExtend, JestChaiExpect, ChaiStyleAssertions, JestAsymmetricMatchers]) chai.use(plugin);

const matchers: object = Reflect.get(globalThis, ASYMMETRIC_MATCHERS_OBJECT);
const assertion = (value: unknown, message?: string): Chai.Assertion => chai.expect(value, message);

/** Makes assertions as vitest does, but for snapshots and polling. */
export const expect = Object.assign(assertion, chai.expect, matchers);
Reflect.set(globalThis, GLOBAL_EXPECT, expect);
setState({ assertionCalls: 0 }, expect as never);
(chai.expect as unknown as { extend(target: unknown, matchers: unknown): void }).extend(expect, customMatchers);
