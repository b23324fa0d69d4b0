import { testTable } from '../support/table.js';

testTable('view');
