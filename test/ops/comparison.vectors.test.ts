import { testTable } from '../support/table.js';

testTable('comparison');
