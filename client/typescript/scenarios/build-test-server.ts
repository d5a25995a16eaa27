/**
 * Builds the test server before the tests start, because the build takes longer than the time limit of a test. If
 * RUNHUB_TEST_SERVER is set or cargo is not installed, this script builds nothing.
 */

import { findOrBuildTestServer, isTestServerAvailable } from "./test-server.js";

if (isTestServerAvailable()) {
  findOrBuildTestServer();
}
