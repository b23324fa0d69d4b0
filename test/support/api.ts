/** What lib/index.ts exports, as the compiler sees it: documentation and parameters. */
import path from 'node:path';
import ts from 'typescript';

export interface PublicItem {
  /** As a user writes it: `relu`, `Tensor.relu`, `nn.Linear`, `nn.Linear.forward`. */
  readonly name: string;
  readonly kind: 'function' | 'class' | 'method';
  /** Its docstring; of a method without one, that of the method it overrides. */
  readonly doc: string;
  /** Where it is declared, from lib/ on. */
  readonly file: string;
  /** Which of its parameters is an object of options, and the names they may have; null: none. */
  readonly options: { at: number; names: readonly string[] } | null;
}

const root = path.resolve(import.meta.dirname, '../..');

export function publicItems(): PublicItem[] {
  const file = path.join(root, 'lib/index.ts');
  const { config } = ts.readConfigFile(path.join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram([file], { ...options, types: [] });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file) as ts.SourceFile;
  const items: PublicItem[] = [];

  const typeOf = (symbol: ts.Symbol): ts.Type => checker.getTypeOfSymbolAtLocation(symbol, source);
  const documentation = (symbol: ts.Symbol): string =>
    ts.displayPartsToString(symbol.getDocumentationComment(checker));

  const fileOf = (symbol: ts.Symbol): string =>
    path.relative(path.join(root, 'lib'), symbol.declarations?.[0]?.getSourceFile().fileName ?? '');

  const isPublic = (member: ts.Symbol): boolean => {
    const declaration = member.declarations?.[0];
    if (!declaration?.getSourceFile().fileName.startsWith(`${root}/lib/`)) return false;
    const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
    if (ts.getCombinedModifierFlags(declaration) & hidden || member.name.startsWith('__@')) {
      return false;
    }
    return !member.getJsDocTags(checker).some((tag) => tag.name === 'internal');
  };

  /** Whether a class declares a member itself; what lib/ops adds to Tensor counts as its own. */
  const isOwn = (member: ts.Symbol, owner: ts.Symbol): boolean =>
    owner.name === 'Tensor' ||
    (member.declarations ?? []).some(({ parent }) => owner.declarations?.includes(parent as never));

  const optionsOf = (signatures: readonly ts.Signature[]): PublicItem['options'] => {
    for (const signature of signatures) {
      for (const [at, parameter] of signature.getParameters().entries()) {
        const type = checker.getNonNullableType(typeOf(parameter));
        const parts = (type.isUnion() ? type.types : [type]).filter(
          (part) => part.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection),
        );
        const properties =
          parts.length === 1 ? checker.getPropertiesOfType(parts[0] as ts.Type) : [];
        const weak = properties.every(({ flags }) => flags & ts.SymbolFlags.Optional);
        const callable = parts.some((part) => part.getCallSignatures().length > 0);
        if (properties.length === 0 || callable) continue;
        if (weak || /options/i.test(parameter.name)) {
          return { at, names: properties.map(({ name }) => name) };
        }
      }
    }
    return null;
  };

  const visit = (prefix: string, exported: readonly ts.Symbol[]): void => {
    for (const alias of exported) {
      const symbol = alias.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(alias) : alias;
      const name = prefix + alias.name;
      if (symbol.flags & ts.SymbolFlags.Class) {
        const made = typeOf(symbol).getConstructSignatures();
        items.push({
          name,
          kind: 'class',
          doc: documentation(symbol),
          file: fileOf(symbol),
          options: optionsOf(made),
        });
        for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
          const calls = typeOf(member).getCallSignatures();
          if (calls.length === 0 || !isPublic(member) || !isOwn(member, symbol)) continue;
          items.push({
            name: `${name}.${member.name}`,
            kind: 'method',
            doc: documentation(member),
            file: fileOf(member),
            options: optionsOf(calls),
          });
        }
      } else if (symbol.flags & ts.SymbolFlags.ValueModule) {
        visit(`${name}.`, checker.getExportsOfModule(symbol));
      } else if (symbol.flags & (ts.SymbolFlags.Function | ts.SymbolFlags.Variable)) {
        const type = typeOf(symbol);
        const calls = type.getCallSignatures();
        if (calls.length > 0) {
          items.push({
            name,
            kind: 'function',
            doc: documentation(symbol),
            file: fileOf(symbol),
            options: optionsOf(calls),
          });
        }
      }
    }
  };
  visit('', checker.getExportsOfModule(checker.getSymbolAtLocation(source) as ts.Symbol));
  return items;
}
